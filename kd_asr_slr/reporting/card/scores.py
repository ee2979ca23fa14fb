"""The scores of a model card: over the splits, by speaker, what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kd_asr_slr.reporting.tables import markdown_table, percent, shown_counts, shown_interval
from kd_asr_slr.scoring.protocols import PROTOCOLS


def scores(results: dict[str, Any]) -> str:
    """The table of all scores, and by which protocol they were counted."""
    if not results["scores"]:
        return "This run has not been scored yet."
    header = ["split", "decoder", "protocol", "WER %", "95 % interval", "WRA %", "S / D / I", "tokens", "utterances"]
    cells = [
        [score["split"], decoding(score), score["protocol"], percent(score["wer"]), shown_interval(score)]
        + [percent(score["wra"]), shown_counts(score), f"{score['reference_tokens']:,}", f"{score['utterances']:,}"]
        for score in results["scores"]
    ]
    protocols = ", ".join(dict.fromkeys(f"`{score['protocol']}`" for score in results["scores"]))
    text = (
        f"Scored with protocol {protocols}. WER = (S + D + I) / reference tokens, summed over the split; the interval "
        "is a bootstrap over utterances; WRA is the share of utterances recognised without an error."
    )
    used = dict.fromkeys(score["protocol"] for score in results["scores"] if score["protocol"] in PROTOCOLS)
    signatures = "\n".join(f"- `{PROTOCOLS[name].signature}`" for name in used)
    table = markdown_table(header, cells, [False] * 3 + [True] * 6)
    return "\n\n".join(part for part in (text, table, signatures) if part)


def speakers(results: dict[str, Any]) -> list[str]:
    """The heading and the table of the speakers; nothing where none are known."""
    scores = [score for score in results["scores"] if score["by_speaker"]]
    if not scores:
        return []
    header = ["split", "decoder", "speaker", "WER %", "WRA %", "tokens"]
    cells = [
        [score["split"], decoding(score), speaker, percent(rates["wer"]), percent(rates["wra"])]
        + [f"{rates['reference_tokens']:,}"]
        for score in scores
        for speaker, rates in sorted(score["by_speaker"].items())
    ]
    return ["### By speaker", markdown_table(header, cells, [False] * 3 + [True] * 3)]


def verdict(lines: Sequence[str]) -> str:
    """What it means as a paragraph, what to do as a list."""
    said = " ".join(line for line in lines if not line.startswith("- "))
    return "\n".join([said, "", *(line for line in lines if line.startswith("- "))])


def decoding(score: dict[str, Any]) -> str:
    """The decoder, with its language model."""
    return f"{score['decoder']} + {Path(score['lm']).name}" if score["lm"] else score["decoder"]
