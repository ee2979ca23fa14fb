"""What corpora hold when they are whole: the counts that an integrity report compares with."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class KnownCounts:
    """Counts of one split as distributed; None where no source gives one.

    Attributes:
        utterances: rows of the csv, PHOENIX-2014's broken item included.
        tokens: glosses of the annotations.
        types: different glosses.
        signers: different signers.
        frames: of the videos of all utterances but the broken item.
        clean_tokens, clean_types: after the official clean-up, without the broken item.
        oov_tokens: glosses that the cleaned training annotations do not hold.
    """

    utterances: int | None = None
    tokens: int | None = None
    types: int | None = None
    signers: int | None = None
    frames: int | None = None
    clean_tokens: int | None = None
    clean_types: int | None = None
    oov_tokens: int | None = None

    def given(self) -> dict[str, int]:
        """The counts that a source gives, by name."""
        return {item.name: value for item in fields(self) if (value := getattr(self, item.name)) is not None}


@dataclass(frozen=True)
class KnownCorpus:
    """The counts of a corpus by split, and where they come from."""

    source: str
    splits: dict[str, KnownCounts]


KNOWN: dict[str, KnownCorpus] = {
    "phoenix2014": KnownCorpus(
        "counted on the distributed csv and stm files and the frames of every video",
        {
            "train": KnownCounts(5672, 65227, 1231, 9, 798_990, 58359, 1100),
            "dev": KnownCounts(540, 5540, 460, 9, 75_186, 5540, 460, 29),
            "test": KnownCounts(629, 6504, 496, 9, 89_472, 6504, 496, 37),
        },
    ),
    "phoenix2014_si5": KnownCorpus(
        "counted on the multisigner csv files: signer 5 is left out of train, and alone in dev and test",
        {
            "train": KnownCounts(utterances=4376, signers=8),
            "dev": KnownCounts(utterances=111, signers=1),
            "test": KnownCounts(utterances=180, signers=1),
        },
    ),
    "phoenix2014t": KnownCorpus(
        "Camgoz et al. (CVPR 2018) for utterances and signers, the references of release v3 for glosses",
        {
            "train": KnownCounts(utterances=7096, signers=9, clean_tokens=55_247, clean_types=1085),
            "dev": KnownCounts(utterances=519, clean_tokens=3748),
            "test": KnownCounts(utterances=642, clean_tokens=4264),
        },
    ),
}
