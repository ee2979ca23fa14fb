"""One scored split of one run, in the form that a run's results.json holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kd_asr_slr.errors import UserError
from kd_asr_slr.scoring.alignment import UtteranceCounts, count_errors
from kd_asr_slr.scoring.breakdown import grouped_rates, groupings, intervals, macro, sums, text_figures
from kd_asr_slr.scoring.predictions import check_predictions, listed
from kd_asr_slr.scoring.protocols import Protocol, get_protocol
from kd_asr_slr.scoring.rates import DEFAULT_RESAMPLES, DEFAULT_SEED, wer, wra


def score_predictions(
    rows: Sequence[Mapping[str, Any]],
    split: str,
    decoder: str,
    lm: str | None = None,
    protocol: str = "words",
    *,
    seed: int = DEFAULT_SEED,
    resamples: int = DEFAULT_RESAMPLES,
) -> dict[str, Any]:
    """Score the predictions of a split.

    Args:
        rows: prediction rows (`id`, `speaker`, `reference`, `hypothesis`), see `predictions`. Further keys are used
            where they are there: `band`, `category`, `seen` group the rates, `utterance` tells which recordings are
            of one utterance (see `breakdown`).
        split: the split's name.
        decoder: the decoder's name ("greedy", "beam", "closed", "attention", "joint").
        lm: name or path of the language model, or None.
        protocol: a key of `protocols.PROTOCOLS`.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Returns:
        One entry of `scores`: rates as fractions, counts as sums over the corpus, ready for JSON.

    Raises:
        UserError: no rows, incomplete rows, an id there twice, an empty reference, an unknown protocol.

    Example:
        >>> row = {"id": "u1", "speaker": "fsdd/theo", "reference": "ONE TWO", "hypothesis": "ONE"}
        >>> score_predictions([row], split="test", decoder="greedy")["wer"]
        0.5
    """
    check_predictions(rows, f"the predictions of split '{split}'")
    counting = get_protocol(protocol)
    counts = count_rows(rows, counting, split)
    by_speaker = grouped_rates(counts, [row["speaker"] for row in rows])
    return {
        "split": split,
        "decoder": decoder,
        "lm": lm,
        "protocol": protocol,
        "wer": wer(counts),
        **sums(counts),
        "utterances": len(counts),
        "wra": wra(counts),
        **intervals(rows, counts, seed, resamples),
        **text_figures(rows, counting),
        "macro": macro(by_speaker),
        "by_speaker": by_speaker,
        **groupings(rows, counts),
    }


def count_rows(rows: Sequence[Mapping[str, Any]], protocol: Protocol, split: str) -> list[UtteranceCounts]:
    """Count the errors of every row by a protocol; intervals, tests and tables start from these counts.

    Raises:
        UserError: naming the rows whose reference has no tokens.
    """
    references = [protocol.reference_tokens(row["reference"]) for row in rows]
    empty = [row["id"] for row, tokens in zip(rows, references, strict=True) if not tokens]
    if empty:
        amount = "all" if len(empty) == len(rows) else str(len(empty))
        raise UserError(
            f"{amount} of {len(rows)} references of split '{split}' are empty by protocol '{protocol.name}': "
            f"{listed(empty)}",
            expected="at least one token in each reference",
            fix="correct these transcripts, or leave the utterances out of the split",
        )
    hypotheses = [protocol.hypothesis_tokens(row["hypothesis"]) for row in rows]
    pairs = zip(references, hypotheses, strict=True)
    return [count_errors(reference, hypothesis, protocol.costs) for reference, hypothesis in pairs]
