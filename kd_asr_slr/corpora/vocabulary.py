"""Gloss vocabularies by name: which labels a recogniser of a corpus can write.

The count of a policy is that of its labels; the blank of CTC comes on top: `vac1296` has 1,295 labels and index 0.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from datasets import DatasetDict

from kd_asr_slr.corpora.schema import did_you_mean
from kd_asr_slr.errors import UserError

# Normalisers that leave the glosses as they are annotated.
UNCLEANED = frozenset({"none", "raw", "glosses"})


@dataclass(frozen=True)
class Policy:
    """One way to choose the labels.

    Attributes:
        cleaned: whether they are cleaned glosses, or glosses as annotated.
        all_splits: whether those of dev and test are among them: the field's habit, and a look at the test labels.
    """

    cleaned: bool
    all_splits: bool = False


POLICIES: dict[str, Policy] = {
    "cleaned": Policy(cleaned=True),
    "raw": Policy(cleaned=False),
    # VAC and its descendants (SMKD, CorrNet, SEN, TLP, SlowFastSign): the outputs of their released checkpoints.
    "vac1296": Policy(cleaned=False, all_splits=True),
}


def gloss_vocabulary(corpus: DatasetDict, policy: str, normaliser: str, train_split: str = "train") -> list[str]:
    """The labels of a policy, sorted by code point; without the blank.

    Args:
        corpus: splits whose texts were normalised by `normaliser`.
        policy: a key of `POLICIES`. For PHOENIX-2014: "cleaned" 1,100 labels, "raw" 1,231, "vac1296" 1,295.
        normaliser: what the texts went through; it must fit the policy.
        train_split: name of the split that is trained on.

    Raises:
        UserError: if the policy is unknown, or the texts are cleaned where it wants them raw, or raw where cleaned.

    Example:
        >>> len(gloss_vocabulary(load_data(data), "cleaned", "phoenix2014"))
        1100
    """
    if policy not in POLICIES:
        raise UserError(
            f"unknown gloss vocabulary '{policy}'{did_you_mean(policy, POLICIES)}",
            expected=f"one of {', '.join(POLICIES)}",
        )
    chosen = POLICIES[policy]
    if chosen.cleaned == (normaliser in UNCLEANED):
        raise UserError(
            f"the gloss vocabulary '{policy}' and the normaliser '{normaliser}' do not go together",
            expected="cleaned glosses, as of 'phoenix2014'" if chosen.cleaned else "glosses as annotated",
            fix=f"set the normaliser to {'phoenix2014 or phoenix2014t' if chosen.cleaned else 'raw'}",
        )
    splits = list(corpus) if chosen.all_splits else [train_split]
    return gloss_types(text for split in splits for text in corpus[split]["text"])


def gloss_types(texts: Iterable[str]) -> list[str]:
    """Every gloss of some texts once, sorted by code point."""
    return sorted({gloss for text in texts for gloss in text.split()})
