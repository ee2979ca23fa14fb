"""Which utterances are trained on and which are tested: split policies by name, folds, and names of speakers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from datasets import Dataset, DatasetDict, concatenate_datasets

from kd_asr_slr.corpora.row_files import rows_where
from kd_asr_slr.corpora.schema import UNTRANSCRIBED, did_you_mean
from kd_asr_slr.corpora.split_policies import SplitSettings, by_blocks, by_prompt
from kd_asr_slr.corpora.split_rows import check_known, check_not_empty, column_of, divided, pooled, renamed
from kd_asr_slr.errors import UserError

Corpus = TypeVar("Corpus", Dataset, DatasetDict)


def apply_split(
    corpus: DatasetDict,
    policy: str = "as_given",
    *,
    held_out: Sequence[str] = (),
    test_from: Sequence[str] = (),
    train_blocks: Sequence[str] = (),
    test_blocks: Sequence[str] = (),
    dev_share: float = 0.1,
    test_share: float = 0.2,
) -> DatasetDict:
    """Divide a corpus by a named policy; all recordings of one utterance (microphones) land in one split.

    Args:
        corpus: splits as the corpus gives them.
        policy: "as_given" changes nothing. "held_out_speaker" tests on the held-out speakers, and takes all of their
            utterances out of every other split. "blocks" trains on some blocks of words and tests on others.
            "prompt_disjoint" tests on texts that nobody trains or tunes on.
        held_out: speakers, with or without the corpus before the name ("fsdd/theo" or "theo").
        test_from: splits the test utterances of the held-out speakers are taken from; all splits by default.
        train_blocks: blocks that are trained on; for "held_out_speaker" by the other speakers.
        test_blocks: blocks that are tested; for "held_out_speaker" of the held-out speakers.
        dev_share: share of each speaker's training utterances that tunes ("blocks", "prompt_disjoint").
        test_share: share of the different texts that "prompt_disjoint" tests on.

    Returns:
        The new splits; `split` in every row agrees with them.

    Raises:
        UserError: if a name is unknown, a setting does not belong to the policy, or a split would be empty.

    Example:
        >>> corpus = apply_split(corpus, "held_out_speaker", held_out=["theo"])
        >>> corpus = apply_split(corpus, "blocks", train_blocks=["B1", "B3"], test_blocks=["B2"])
    """
    if policy not in POLICIES:
        raise UserError(
            f"unknown split policy '{policy}'{did_you_mean(policy, POLICIES)}", expected=f"one of {', '.join(POLICIES)}"
        )
    out = tuple(resolve_speakers(held_out, list_speakers(corpus)))
    blocks = tuple(train_blocks), tuple(test_blocks)
    return POLICIES[policy](corpus, SplitSettings(out, tuple(test_from), *blocks, dev_share, test_share))


def folds(
    corpus: DatasetDict, speakers: Sequence[str] | None = None, **settings: Any
) -> Iterator[tuple[str, DatasetDict]]:
    """Leave one speaker out: each speaker in turn, and the corpus with only that speaker tested.

    Args:
        corpus: splits as the corpus gives them.
        speakers: who is left out, such as the dysarthric ones; everyone by default. All others are trained on.
        **settings: of "held_out_speaker", see `apply_split`; or `policy` for another one that holds speakers out.

    Raises:
        UserError: as `apply_split` does.

    Example:
        >>> [speaker for speaker, fold in folds(corpus)]
        ['fsdd/jackson', 'fsdd/nicolas', 'fsdd/theo', 'fsdd/yweweler']
    """
    known = list_speakers(corpus)
    for speaker in known if speakers is None else resolve_speakers(speakers, known):
        yield (
            speaker,
            apply_split(
                corpus,
                settings.get("policy", "held_out_speaker"),
                held_out=[speaker],
                **{name: value for name, value in settings.items() if name != "policy"},
            ),
        )


def filter_speakers(corpus: Corpus, speakers: Sequence[str]) -> Corpus:
    """Keep the utterances of some speakers.

    Args:
        corpus: one split or all of them; a split may become empty.
        speakers: names with or without the corpus before them.

    Raises:
        UserError: if a speaker is unknown or a name fits several speakers.

    Example:
        >>> of_theo = filter_speakers(corpus["train"], ["fsdd/theo"])
    """
    kept = set(resolve_speakers(speakers, list_speakers(corpus)))
    return _filtered(corpus, kept, keep=True)


def list_speakers(corpus: Dataset | DatasetDict) -> list[str]:
    """Every speaker of a split or of a corpus, sorted."""
    splits = corpus.values() if isinstance(corpus, DatasetDict) else [corpus]
    return sorted({speaker for split in splits for speaker in split.unique("speaker")})


def resolve_speakers(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """Full names of speakers, given with or without their corpus.

    Raises:
        UserError: if a name is unknown, or fits speakers of several corpora.

    Example:
        >>> resolve_speakers(["theo"], ["fsdd/jackson", "fsdd/theo"])
        ['fsdd/theo']
    """
    if isinstance(names, str):
        raise ValueError(f"speakers is the text {names!r}, not a list of names")
    return [_resolved(name, known) for name in names]


def _resolved(name: str, known: Sequence[str]) -> str:
    if name in known:
        return name
    fitting = [speaker for speaker in known if speaker.split("/", 1)[-1] == name]
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(known)
    if fitting:
        raise UserError(f"the speaker '{name}' fits {' and '.join(fitting)}", expected="one speaker", fix="give one")
    hint = did_you_mean(name, [*known, *(speaker.split("/", 1)[-1] for speaker in known)])
    raise UserError(f"unknown speaker '{name}'{hint}", expected=f"one of {listed}", fix="use one of these names")


def _as_given(corpus: DatasetDict, settings: SplitSettings) -> DatasetDict:
    settings.ignored_by("as_given", ())
    return corpus


def _held_out_speaker(corpus: DatasetDict, settings: SplitSettings) -> DatasetDict:
    if not settings.held_out:
        raise UserError("the split policy 'held_out_speaker' has no speaker", fix="name at least one in held_out")
    out = set(settings.held_out)
    unknown = [split for split in settings.test_from if split not in corpus]
    if unknown:
        raise UserError(f"unknown split '{unknown[0]}' in test_from", expected=f"some of {', '.join(corpus)}")
    sources = settings.test_from or [name for name in corpus if name != UNTRANSCRIBED]
    tested = concatenate_datasets([_filtered(corpus[source], out, keep=True) for source in sources])
    others = _filtered(_trained_on(corpus, settings.train_blocks), out, keep=False)
    result = DatasetDict({**others, "test": renamed(_of_blocks(tested, settings.test_blocks), "test")})
    return check_not_empty(
        result,
        f"holding out {', '.join(sorted(out))}",
        "hold out fewer speakers, or take test utterances from more splits",
    )


def _trained_on(corpus: DatasetDict, blocks: Sequence[str]) -> DatasetDict:
    """Every split but test; with blocks, their utterances in all splits, of which dev keeps its own."""
    if not blocks:
        return DatasetDict({name: split for name, split in corpus.items() if name != "test"})
    pool = _of_blocks(pooled(corpus), blocks)
    splits = ["dev" if split == "dev" else "train" for split in pool["split"][:]]
    kept = {"train"} | corpus.keys() - {"test"}
    return DatasetDict({name: part for name, part in divided(pool, splits, corpus).items() if name in kept})


def _of_blocks(rows: Dataset, blocks: Sequence[str]) -> Dataset:
    if not blocks:
        return rows
    found = column_of(rows, "block", "block")
    check_known(blocks, found, "block")
    return rows_where(rows, "block", blocks)


def _filtered(corpus: Corpus, speakers: set[str], keep: bool) -> Corpus:
    if isinstance(corpus, DatasetDict):
        return DatasetDict({name: _filtered(split, speakers, keep) for name, split in corpus.items()})
    return rows_where(corpus, "speaker", speakers, among=keep)


POLICIES: dict[str, Callable[[DatasetDict, SplitSettings], DatasetDict]] = {
    "as_given": _as_given,
    "held_out_speaker": _held_out_speaker,
    "blocks": by_blocks,
    "prompt_disjoint": by_prompt,
}
