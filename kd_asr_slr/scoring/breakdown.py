"""What a single rate hides: collapse, intervals over utterances and speakers, rates of groups of utterances."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from kd_asr_slr.scoring.alignment import UtteranceCounts
from kd_asr_slr.scoring.protocols import Protocol
from kd_asr_slr.scoring.rates import by_group, cer, ratio_interval, wer, wra

# Key of an entry of `scores` -> key of the prediction rows that it groups by. One more is one more line.
GROUPINGS = {"by_band": "band", "by_category": "category", "by_seen": "seen"}
UNKNOWN = "unknown"
SEEN = {True: "seen", False: "unseen"}
# Recordings with the same value here are one utterance (several microphones), and are drawn together.
SAME_UTTERANCE = "utterance"

Row = Mapping[str, Any]
Interval = list[float]


def text_figures(rows: Sequence[Row], protocol: Protocol) -> dict[str, Any]:
    """What the texts themselves say: CER, WRA by the first word, and signs of collapse.

    Args:
        rows: prediction rows.
        protocol: from texts to tokens.

    Returns:
        `cer`: character error rate of the normalised texts. `wra_first_word`: share of utterances whose first
        recognised word alone is the whole reference, case ignored. `distinct_predictions`: number of different
        outputs, the empty one included. `commonest_prediction`: its `text`, and its `share` of the utterances; of
        several, the first in the alphabet. `empty_predictions`: utterances without any output.

    Example:
        >>> row = {"reference": "ONE", "hypothesis": "one two"}
        >>> text_figures([row], get_protocol("words"))["wra_first_word"]
        1.0
    """
    references = [protocol.reference_tokens(row["reference"]) for row in rows]
    hypotheses = [_output(protocol.hypothesis_tokens(row["hypothesis"]), protocol) for row in rows]
    texts = [" ".join(tokens) for tokens in hypotheses]
    amounts = Counter(texts)
    commonest = min(amounts, key=lambda text: (-amounts[text], text))
    first = [_lower(guess[:1]) == _lower(truth) for truth, guess in zip(references, hypotheses, strict=True)]
    return {
        "cer": cer([" ".join(tokens) for tokens in references], texts),
        "wra_first_word": sum(first) / len(rows),
        "distinct_predictions": len(amounts),
        "commonest_prediction": {"text": commonest, "share": amounts[commonest] / len(rows)},
        "empty_predictions": amounts[""],
    }


def intervals(rows: Sequence[Row], counts: Sequence[UtteranceCounts], seed: int, resamples: int) -> dict[str, Any]:
    """95 % intervals of WER and WRA by bootstrap, over utterances and over speakers.

    Where the rows have the key `utterance`, recordings that share it (the microphones of one utterance) are drawn
    together: they are no independent evidence.

    Args:
        rows: prediction rows.
        counts: of every row, in the same order.
        seed: of the draws.
        resamples: number of draws.

    Returns:
        `wer_ci95`, `wra_ci95`, `wer_ci95_speakers`, `wra_ci95_speakers`: [low, high]; the last two are None where
        there is a single speaker.
    """
    utterances = [str(row.get(SAME_UTTERANCE) or row["id"]) for row in rows]
    speakers = [row["speaker"] for row in rows]
    several = len(set(speakers)) > 1
    of_wer, of_wra = _interval_pair(counts, utterances, seed, resamples)
    of_speakers = _interval_pair(counts, speakers, seed, resamples) if several else (None, None)
    return {
        "wer_ci95": of_wer,
        "wra_ci95": of_wra,
        "wer_ci95_speakers": of_speakers[0],
        "wra_ci95_speakers": of_speakers[1],
    }


def macro(by_speaker: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The mean of the speakers' rates, each speaker counting once; the pooled rates are the micro ones."""
    return {rate: sum(rates[rate] for rates in by_speaker.values()) / len(by_speaker) for rate in ("wer", "wra")}


def groupings(rows: Sequence[Row], counts: Sequence[UtteranceCounts]) -> dict[str, dict[str, Any]]:
    """Rates of groups of utterances, for each of `GROUPINGS` that the rows know something about.

    Args:
        rows: prediction rows.
        counts: of every row, in the same order.

    Returns:
        Key -> group -> rates, as `by_speaker` has them. Rows that lack the key are the group "unknown"; a key that no
        row has is left out.
    """
    found = {}
    for name, key in GROUPINGS.items():
        labels = [_label(row.get(key)) for row in rows]
        if set(labels) != {UNKNOWN}:
            found[name] = grouped_rates(counts, labels)
    return found


def grouped_rates(counts: Sequence[UtteranceCounts], labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """WER, WRA and counts of each group, in sorted order."""
    return {
        group: {"wer": wer(part), "wra": wra(part), **sums(part), "utterances": len(part)}
        for group, part in by_group(counts, labels).items()
    }


def sums(counts: Sequence[UtteranceCounts]) -> dict[str, int]:
    """Substitutions, deletions, insertions and reference tokens, summed."""
    names = ("substitutions", "deletions", "insertions", "reference_tokens")
    return {name: sum(getattr(count, name) for count in counts) for name in names}


def _interval_pair(
    counts: Sequence[UtteranceCounts], units: Sequence[Hashable], seed: int, resamples: int
) -> tuple[Interval, Interval]:
    """The intervals of WER and WRA when these units are drawn anew."""
    totals: dict[Hashable, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for count, unit in zip(counts, units, strict=True):
        for place, amount in enumerate((count.errors, count.reference_tokens, int(count.errors == 0), 1)):
            totals[unit][place] += amount
    errors, tokens, exact, utterances = zip(*totals.values(), strict=True)
    return (
        list(ratio_interval(errors, tokens, seed, resamples)),
        list(ratio_interval(exact, utterances, seed, resamples)),
    )


def _label(value: Any) -> str:
    if isinstance(value, bool):
        return SEEN[value]
    return UNKNOWN if value is None else str(value)


def _output(tokens: list[str], protocol: Protocol) -> list[str]:
    """What was recognised, without the token that stands for nothing."""
    return [] if protocol.empty is not None and tokens == protocol.hypothesis_tokens("") else tokens


def _lower(tokens: Sequence[str]) -> list[str]:
    return [token.casefold() for token in tokens]
