"""Score files that somebody has, without a run: ctm against stm, as the benchmarks' own evaluation, or JSON lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.files import write_json
from kd_asr_slr.scoring.nist import Reference, TimedToken, read_ctm, read_stm, texts_of_ctm
from kd_asr_slr.scoring.predictions import LISTED, Prediction, read_predictions
from kd_asr_slr.scoring.protocols import Protocol, get_protocol
from kd_asr_slr.scoring.score import score_predictions

DECODER = "file"


def score_files(
    hypotheses: str | Path, references: str | Path, protocol: str = "official-sclite", output: str | Path | None = None
) -> dict[str, Any]:
    """Score a ctm file against a stm file.

    An utterance without any line in the ctm counts as empty, as the official evaluation fills it in; an id that the
    references do not have is an error. Speakers are compared without their case.

    Args:
        hypotheses: the ctm file.
        references: the stm file.
        protocol: a key of `protocols.PROTOCOLS`.
        output: where to write the result as JSON, or None.

    Returns:
        An entry of `scores` (see `score.score_predictions`), with the `signature` of the protocol, the two file names
        and `missing`, the number of utterances that had no line.

    Raises:
        UserError: naming lines that are malformed or of unknown ids; a file is missing; the protocol is unknown;
            `output` is a folder.
    """
    counting = _checked(protocol, output)
    rows = read_stm(references)
    tokens = read_ctm(hypotheses)
    _check_ids(tokens, rows, hypotheses, references)
    texts = texts_of_ctm(tokens)
    predictions = [
        Prediction(id=row.id, speaker=row.speaker.lower(), reference=row.text, hypothesis=texts.get(row.id, ""))
        for row in rows
    ]
    score = score_predictions(predictions, split=Path(references).stem, decoder=DECODER, protocol=protocol)
    score |= {"signature": counting.signature, "hypotheses": str(hypotheses), "references": str(references)}
    score["missing"] = len(rows) - len(texts)
    return _written(score, output)


def score_prediction_file(
    predictions: str | Path, protocol: str = "words", output: str | Path | None = None
) -> dict[str, Any]:
    """Score a file of JSON lines, each with `id`, `speaker`, `reference` and `hypothesis`, as run folders have them.

    Args:
        predictions: the file; further keys of its rows group the rates (see `score.score_predictions`).
        protocol: a key of `protocols.PROTOCOLS`.
        output: where to write the result as JSON, or None.

    Returns:
        An entry of `scores`, with the `signature` of the protocol and the name of the file.

    Raises:
        UserError: the file is missing or no such file, a row is incomplete, or as `score_files`.

    Example:
        >>> score_prediction_file("runs/fsdd/student/predictions-test.jsonl")["wer"]  # doctest: +SKIP
        0.25
    """
    counting = _checked(protocol, output)
    rows = read_predictions(predictions)
    score = score_predictions(rows, split=Path(predictions).stem, decoder=DECODER, protocol=protocol)
    return _written(score | {"signature": counting.signature, "hypotheses": str(predictions)}, output)


def _checked(protocol: str, output: str | Path | None) -> Protocol:
    """The protocol, before anything is read."""
    if output is not None and Path(output).is_dir():
        raise UserError(f"'{output}' is a folder", expected="a JSON file to write")
    return get_protocol(protocol)


def _written(score: dict[str, Any], output: str | Path | None) -> dict[str, Any]:
    if output is not None:
        Path(output).parent.mkdir(parents=True, exist_ok=True)
        write_json(Path(output), score)
    return score


def describe_score(score: Mapping[str, Any]) -> str:
    """Return a score as a table for people: one line a speaker and the sum, then the interval and the signature.

    Args:
        score: what `score_files` returns, or any entry of `scores` whose speakers have their counts.
    """
    lines = [f"{'speaker':<16} {'WER %':>7} {'S':>6} {'D':>6} {'I':>6} {'tokens':>8}"]
    lines += [_line(speaker, rates) for speaker, rates in score["by_speaker"].items()]
    lines.append(_line("all", score))
    lines.append(
        f"WRA {100 * score['wra']:.2f} % (first word {100 * score['wra_first_word']:.2f} %, mean of the speakers "
        f"{100 * score['macro']['wra']:.2f} %), CER {100 * score['cer']:.2f} %"
    )
    commonest = score["commonest_prediction"]
    lines.append(
        f"{score['distinct_predictions']} different outputs, the commonest '{commonest['text']}' in "
        f"{100 * commonest['share']:.2f} % of the utterances, {score['empty_predictions']} empty"
    )
    low, high = score["wer_ci95"]
    lines.append(f"95 % interval {100 * low:.2f} to {100 * high:.2f} % (utterances drawn anew)")
    missing = f", {score['missing']} of them missing in the hypotheses" if score.get("missing") else ""
    lines.append(f"{score['utterances']} utterances{missing}")
    lines.append(f"protocol {score.get('signature', score['protocol'])}")
    return "\n".join(lines)


def _line(name: str, rates: Mapping[str, Any]) -> str:
    counts = " ".join(f"{rates[key]:>6}" for key in ("substitutions", "deletions", "insertions"))
    return f"{name:<16} {100 * rates['wer']:>7.2f} {counts} {rates['reference_tokens']:>8}"


def _check_ids(
    tokens: Sequence[TimedToken], rows: Sequence[Reference], hypotheses: str | Path, references: str | Path
) -> None:
    """Raise for hypotheses of utterances that the references do not have, naming the first line of each."""
    known = {row.id for row in rows}
    first: dict[str, int] = {}
    for token in sorted(tokens, key=lambda token: token.number):
        if token.id not in known:
            first.setdefault(token.id, token.number)
    problems = [f"line {number}: no utterance {identity} in '{references}'" for identity, number in first.items()]
    if len(problems) > LISTED:
        problems = [*problems[:LISTED], f"{len(problems) - LISTED} more unknown utterances"]
    raise_all(problems, f"the hypotheses in '{hypotheses}'")
