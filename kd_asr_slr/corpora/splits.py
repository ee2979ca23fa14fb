"""Which speakers are trained on and which are tested."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from datasets import Dataset, DatasetDict, concatenate_datasets

from kd_asr_slr.corpora.schema import did_you_mean
from kd_asr_slr.errors import UserError

Corpus = TypeVar("Corpus", Dataset, DatasetDict)


def apply_split(
    corpus: DatasetDict,
    policy: str = "as_given",
    *,
    held_out: Sequence[str] = (),
    test_from: Sequence[str] = (),
) -> DatasetDict:
    """Divide a corpus by a named policy.

    Args:
        corpus: splits as the corpus gives them.
        policy: "as_given" changes nothing. "held_out_speaker" tests on the held-out speakers, and takes all of their
            utterances out of every other split.
        held_out: speakers, with or without the corpus before the name ("fsdd/theo" or "theo").
        test_from: splits the test utterances of the held-out speakers are taken from; all splits by default.

    Returns:
        The new splits; `split` in every row agrees with them.

    Raises:
        UserError: if a name is unknown, a setting does not belong to the policy, or a split would be empty.

    Example:
        >>> corpus = apply_split(corpus, "held_out_speaker", held_out=["theo"])
    """
    if policy not in POLICIES:
        raise UserError(
            f"unknown split policy '{policy}'{did_you_mean(policy, POLICIES)}", expected=f"one of {', '.join(POLICIES)}"
        )
    return POLICIES[policy](corpus, held_out, test_from)


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


def _as_given(corpus: DatasetDict, held_out: Sequence[str], test_from: Sequence[str]) -> DatasetDict:
    if held_out or test_from:
        raise UserError(
            "held-out speakers were given, but the split policy 'as_given' ignores them",
            expected="the policy 'held_out_speaker'",
            fix="set the policy to held_out_speaker, or take the speakers out",
        )
    return corpus


def _held_out_speaker(corpus: DatasetDict, held_out: Sequence[str], test_from: Sequence[str]) -> DatasetDict:
    if not held_out:
        raise UserError("the split policy 'held_out_speaker' has no speaker", fix="name at least one in held_out")
    out = set(resolve_speakers(held_out, list_speakers(corpus)))
    unknown = [split for split in test_from if split not in corpus]
    if unknown:
        raise UserError(f"unknown split '{unknown[0]}' in test_from", expected=f"some of {', '.join(corpus)}")
    sources = [corpus[split] for split in (test_from or corpus)]
    tested = concatenate_datasets([_filtered(source, out, keep=True) for source in sources])
    others = DatasetDict({name: split for name, split in corpus.items() if name != "test"})
    result = DatasetDict({**_filtered(others, out, keep=False), "test": _renamed(tested, "test")})
    _check_not_empty(result, sorted(out))
    return result


def _filtered(corpus: Corpus, speakers: set[str], keep: bool) -> Corpus:
    if isinstance(corpus, DatasetDict):
        return DatasetDict({name: _filtered(split, speakers, keep) for name, split in corpus.items()})
    return corpus.select([row for row, speaker in enumerate(corpus["speaker"][:]) if (speaker in speakers) == keep])


def _renamed(dataset: Dataset, split: str) -> Dataset:
    """The same rows in the same columns, with another name in `split`."""
    columns = {name: dataset[name][:] for name in dataset.column_names}
    return Dataset.from_dict({**columns, "split": [split] * len(dataset)}, features=dataset.features)


def _check_not_empty(corpus: DatasetDict, held_out: Sequence[str]) -> None:
    for name, split in corpus.items():
        if len(split) == 0:
            raise UserError(
                f"holding out {', '.join(held_out)} leaves no utterance in '{name}'",
                expected="at least one utterance in every split",
                fix="hold out fewer speakers, or take test utterances from more splits",
            )


POLICIES: dict[str, Callable[[DatasetDict, Sequence[str], Sequence[str]], DatasetDict]] = {
    "as_given": _as_given,
    "held_out_speaker": _held_out_speaker,
}
