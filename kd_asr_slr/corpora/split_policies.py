"""Splits by block and by prompt, filters by microphone, and which texts were heard in training."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from datasets import DatasetDict

from kd_asr_slr.corpora.split_rows import check_known, check_not_empty, column_of, divided, pooled, with_dev
from kd_asr_slr.errors import UserError


@dataclass(frozen=True)
class SplitSettings:
    """What the split policies can be told; see `splits.apply_split`.

    Attributes:
        held_out: full names of the speakers that nobody trains on.
        test_from: splits the held-out speakers' test utterances come from.
        train_blocks, test_blocks: names in the column `block`.
        dev_share: share of each speaker's training utterances that tunes.
        test_share: share of the texts that are for testing only.
    """

    held_out: tuple[str, ...] = ()
    test_from: tuple[str, ...] = ()
    train_blocks: tuple[str, ...] = ()
    test_blocks: tuple[str, ...] = ()
    dev_share: float = 0.1
    test_share: float = 0.2

    def ignored_by(self, policy: str, used: Sequence[str]) -> None:
        """Refuse settings that a policy does not look at.

        Raises:
            UserError: naming the first of them.
        """
        for name in ("held_out", "test_from", "train_blocks", "test_blocks"):
            if getattr(self, name) and name not in used:
                raise UserError(
                    f"{_SPOKEN[name]} were given, but the split policy '{policy}' ignores them",
                    expected=f"the policy {_USED_BY[name]}",
                    fix=f"set the policy, or take the {_SPOKEN[name]} out",
                )


_SPOKEN = {
    "held_out": "held-out speakers",
    "test_from": "splits to test from",
    "train_blocks": "train_blocks",
    "test_blocks": "test_blocks",
}
_USED_BY = {
    "held_out": "'held_out_speaker' or 'prompt_disjoint'",
    "test_from": "'held_out_speaker'",
    "train_blocks": "'blocks' or 'held_out_speaker'",
    "test_blocks": "'blocks' or 'held_out_speaker'",
}


def by_blocks(corpus: DatasetDict, settings: SplitSettings) -> DatasetDict:
    """Train on some blocks of words, test on others; recordings of further blocks are left out.

    Raises:
        UserError: if a block is unknown, in both lists, or a split would be empty.
    """
    settings.ignored_by("blocks", ("train_blocks", "test_blocks"))
    if not settings.train_blocks or not settings.test_blocks:
        raise UserError(
            "the split policy 'blocks' needs blocks to train and to test on",
            expected="for UASpeech train_blocks B1 and B3, test_blocks B2",
            fix="set --train_blocks B1 B3 --test_blocks B2",
        )
    shared = sorted(set(settings.train_blocks) & set(settings.test_blocks))
    if shared:
        raise UserError(
            f"block {', '.join(shared)} is in train_blocks and in test_blocks", expected="every block in one of them"
        )
    pool = pooled(corpus)
    blocks = column_of(pool, "block", "block")
    check_known([*settings.train_blocks, *settings.test_blocks], blocks, "block")
    place = dict.fromkeys(settings.train_blocks, "train") | dict.fromkeys(settings.test_blocks, "test")
    splits = with_dev(pool, [place.get(block or "") for block in blocks], settings.dev_share)
    return check_not_empty(divided(pool, splits, corpus), "this choice of blocks", "give other blocks")


def by_prompt(corpus: DatasetDict, settings: SplitSettings) -> DatasetDict:
    """Test on texts that nobody trains or tunes on; with held-out speakers, on theirs only.

    A text is for testing by its SHA-256, so that every fold of a leave-one-speaker-out keeps the same texts aside.
    What the held-out speakers say of the other texts is left out.

    Source: arXiv 2411.00980: prompts that train and test speakers share make TORGO's error rates too good.

    Raises:
        UserError: if the share leaves a split without an utterance.
    """
    settings.ignored_by("prompt_disjoint", ("held_out",))
    pool = pooled(corpus)
    texts, out = pool["text"][:], set(settings.held_out)
    tested = texts_for_test(texts, settings.test_share)
    splits = [
        ("test" if text in tested else None if speaker in out else "train")
        if not out or speaker in out
        else (None if text in tested else "train")
        for text, speaker in zip(texts, pool["speaker"][:], strict=True)
    ]
    result = divided(pool, with_dev(pool, splits, settings.dev_share), corpus)
    return check_not_empty(result, f"a test_share of {settings.test_share:g}", "set another --test_share")


def texts_for_test(texts: Sequence[str], share: float) -> set[str]:
    """The share of different texts with the smallest SHA-256; at least one of them.

    Example:
        >>> len(texts_for_test(["ONE", "TWO", "THREE", "ONE"], 0.34))
        1
    """
    different = sorted(set(texts), key=lambda text: hashlib.sha256(text.encode()).hexdigest())
    return set(different[: max(1, round(share * len(different)))])


def filter_microphones(corpus: DatasetDict, microphones: Sequence[str]) -> DatasetDict:
    """Keep the recordings of some microphones.

    Raises:
        UserError: if the corpus names no microphones, one is unknown, or a split would be empty.

    Example:
        >>> of_m5 = filter_microphones(corpus, ["M5"])
    """
    heard = {name: column_of(part, "microphone", "microphone") for name, part in corpus.items()}
    check_known(microphones, [value for values in heard.values() for value in values], "microphone")
    kept = DatasetDict(
        {
            name: corpus[name].select([row for row, value in enumerate(values) if value in set(microphones)])
            for name, values in heard.items()
        }
    )
    return check_not_empty(kept, f"keeping the microphones {', '.join(microphones)}", "keep more of them")


def seen_words(corpus: DatasetDict, train: str = "train", test: str = "test") -> list[bool]:
    """Whether the text of each test row (a word, or a whole prompt) stands in the training split.

    Args:
        corpus: from `splits.apply_split`.
        train: name of the split that is trained on.
        test: name of the split that is asked about.

    Returns:
        One truth value for each row of `test`, in its order.

    Example:
        >>> unseen = 1 - sum(seen_words(corpus)) / len(corpus["test"])
    """
    known = set(corpus[train]["text"][:])
    return [text in known for text in corpus[test]["text"][:]]
