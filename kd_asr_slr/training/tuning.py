"""Weights of the beam search: chosen on the dev split, kept in the run folder, used by later searches of the run.

`decoding.json` holds what was chosen, for which language model (by content), and the rates of everything tried.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from transformers import PreTrainedModel

from kd_asr_slr.arguments import DataArguments
from kd_asr_slr.decoding.grid import GridDecoder
from kd_asr_slr.decoding.pool import Weights
from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.files import read_json, sha256_of_file, write_json
from kd_asr_slr.outputs import CTCOutput, given
from kd_asr_slr.processing.collator import Collator
from kd_asr_slr.processing.dataset import RecogniserDataset
from kd_asr_slr.scoring.alignment import UtteranceCounts
from kd_asr_slr.scoring.predictions import Prediction
from kd_asr_slr.scoring.protocols import get_protocol
from kd_asr_slr.scoring.rates import wer
from kd_asr_slr.scoring.score import count_rows
from kd_asr_slr.tool_arguments import ScoreArguments
from kd_asr_slr.training.data import protocol_of
from kd_asr_slr.training.evaluation import beam_arguments, log_probs_of, predict

SCHEMA = 1
FILE = "decoding.json"
NO_LM = "none"
DEFAULTS = {"beam_width": 10, "lm_weight": 0.5, "word_score": 0.0}


@dataclasses.dataclass(frozen=True, slots=True)
class Tuned:
    """What a grid of weights gave on dev.

    Args:
        best: the weights with the fewest errors; of several the smallest weight, then the word score nearest 0.
        predictions: of the best weights.
        counts: errors of every point of the grid, summed over the split.
    """

    best: Weights
    predictions: list[Prediction]
    counts: dict[Weights, UtteranceCounts]

    def table(self) -> str:
        """WER in percent: a row for every word score, a column for every weight of the language model."""
        weights = sorted({point.lm_weight for point in self.counts})
        lines = ["WER %".ljust(16) + "".join(f"{f'weight {weight:g}':>13}" for weight in weights)]
        for word_score in sorted({point.word_score for point in self.counts}):
            cells = []
            for weight in weights:
                point = Weights(weight, word_score)
                mark = "*" if point == self.best else " "
                cells.append(f"{100 * wer([self.counts[point]]):12.2f}{mark}")
            lines.append(f"word score {word_score:<5g}" + "".join(cells))
        return "\n".join(lines)

    def describe(self) -> str:
        """The table, what was chosen, and what could be tried next."""
        chosen = f"chosen (*): lm_weight {self.best.lm_weight:g}, word_score {self.best.word_score:g}; kept in {FILE}"
        return "\n".join([self.table(), chosen, *self.edges()])

    def edges(self) -> list[str]:
        """Sentences about chosen values at the edge of what was tried, where better ones may lie beyond."""
        found = []
        for name in Weights._fields:
            tried, chosen = {getattr(point, name) for point in self.counts}, getattr(self.best, name)
            lowest = min(tried) > 0 if name == "lm_weight" else True
            if len(tried) > 1 and (chosen == max(tried) or (chosen == min(tried) and lowest)):
                found.append(f"the best {name}, {chosen:g}, is at the edge of those tried; try more with --{name}s")
        return found


def settle(score: ScoreArguments, folder: Path, data: DataArguments) -> tuple[ScoreArguments, str]:
    """Fill in what the command line leaves open: the split, and the beam search as it was tuned for this run.

    Args:
        score: the arguments as given; what is given there wins.
        folder: the run folder.
        data: the run's corpus.

    Returns:
        Arguments without gaps (split, protocol, weights), and the sentence that says where the weights come from
        ("" for other decoders).

    Raises:
        UserError: for tuning on anything but dev, a broken `decoding.json`, or a language model that is not the tuned
            one any more.
    """
    split = score.split or (data.dev_split if score.tune else data.test_split)
    score = dataclasses.replace(score, split=split, protocol=protocol_of(data, score.protocol))
    if score.tune:
        _check_split(split, data)
        return _filled(dataclasses.replace(score, decoder="beam"), {}), ""
    return settled_search(score, folder)


def settled_search(score: ScoreArguments, folder: Path) -> tuple[ScoreArguments, str]:
    """The part of `settle` that is about the search: the weights, as they were tuned for this run where there are any.

    Args:
        score: the arguments as given; what is given there wins.
        folder: the run folder, or a folder (or a name) without a `decoding.json`.

    Raises:
        UserError: for a broken `decoding.json`, or a language model that is not the tuned one any more.
    """
    if score.decoder != "beam":
        return _filled(score, {}), ""
    tuned = read_decoding(folder)
    if tuned is None:
        return _filled(score, {}), _sentence(_filled(score, {}), "not tuned (--tune)")
    if score.lm == NO_LM or (score.lm and sha256_of_file(Path(score.lm)) != tuned["lm_sha256"]):
        return _filled(score, {}), _sentence(_filled(score, {}), f"{FILE} was tuned for {tuned['lm']} and is not used")
    asked = [name for name in DEFAULTS if getattr(score, name) is not None]
    filled = _filled(score, tuned)
    _check_language_model(filled, tuned)
    origin = f"tuned on {tuned['split']} ({FILE})"
    return filled, _sentence(filled, origin + (f", but {' and '.join(asked)} as given" if asked else ""))


def tune(
    model: PreTrainedModel,
    processor: Any,
    items: RecogniserDataset,
    score: ScoreArguments,
) -> Tuned:
    """Search the dev split with every pair of weights; the network runs once.

    Args:
        model: the recogniser.
        processor: its processor.
        items: the dev split.
        score: settled arguments (see `settle`) with the values to try.

    Raises:
        UserError: for a language model that is unreadable or has nothing in common with the vocabulary.
    """
    decoder = GridDecoder(
        beam_arguments(processor, score), score.decode_processes
    )  # refuses a wrong model before the network runs
    grid = grid_of(score)
    kept: list[np.ndarray] = []
    empty = predict(model, items, Collator(processor.input_name), keeping(kept), score.batch_size, "network")
    texts = decoder.decode(kept, grid)
    rows = [
        [cast(Prediction, {**row, "hypothesis": text}) for row, text in zip(empty, point, strict=True)]
        for point in texts
    ]
    split, protocol = given(score.split, "split"), get_protocol(given(score.protocol, "protocol"))
    counts = {weights: _summed(count_rows(point, protocol, split)) for weights, point in zip(grid, rows, strict=True)}
    best = min(grid, key=lambda point: (counts[point].errors, point.lm_weight, abs(point.word_score), point.word_score))
    return Tuned(best, rows[grid.index(best)], counts)


def with_weights(score: ScoreArguments, tuned: Tuned) -> ScoreArguments:
    """The arguments with the chosen weights."""
    return dataclasses.replace(score, **tuned.best._asdict())


def search_of(score: ScoreArguments) -> dict[str, Any] | None:
    """The settings of a search as results.json keeps them (settled arguments); None for decoders that have none."""
    own = {"closed": ("word_list", "closed_by"), "joint": ("ctc_weight", "beam_width")}
    if score.decoder in own:
        weight = ("ctc_weight",) if "joint" in (score.decoder, score.closed_by) else ()
        return {name: getattr(score, name) for name in dict.fromkeys((*own[score.decoder], *weight))}
    if score.decoder != "beam":
        return None
    names = DEFAULTS if score.lm else ("beam_width",)  # without a language model the weights have no say
    engine = {} if score.beam_engine == "pyctcdecode" else {"beam_engine": score.beam_engine}
    return {name: getattr(score, name) for name in names} | engine


def grid_of(score: ScoreArguments) -> list[Weights]:
    """Every pair of the weights and word scores to try, each once."""
    return [
        Weights(lm_weight, word_score)
        for lm_weight in sorted(set(score.lm_weights))
        for word_score in sorted(set(score.word_scores))
    ]


def keeping(kept: list[np.ndarray]) -> Callable[[PreTrainedModel, dict[str, Any], CTCOutput], list[str]]:
    """A decoding that decodes nothing and keeps the log-probabilities [T, V] of every utterance."""

    def keep(model: PreTrainedModel, batch: dict[str, Any], output: CTCOutput) -> list[str]:
        rows = log_probs_of(output)
        kept.extend(row.copy() for row in rows)  # without the padding behind them
        return [""] * len(rows)

    return keep


def write_decoding(folder: Path, score: ScoreArguments, tuned: Tuned) -> Path:
    """Write what was chosen, for which language model, and the table it was chosen from, as `decoding.json`."""
    record = {
        "schema": SCHEMA,
        "decoder": "beam",
        "split": score.split,
        "protocol": score.protocol,
        "utterances": len(tuned.predictions),
        "lm": score.lm,
        "lm_sha256": sha256_of_file(Path(given(score.lm, "lm"))),
        "beam_width": score.beam_width,
        **tuned.best._asdict(),
        "wer": wer([tuned.counts[tuned.best]]),
        "table": [
            {
                **point._asdict(),
                "wer": wer([counts]),
                "substitutions": counts.substitutions,
                "deletions": counts.deletions,
                "insertions": counts.insertions,
            }
            for point, counts in tuned.counts.items()
        ],
    }
    return write_json(folder / FILE, record)


def read_decoding(folder: Path) -> dict[str, Any] | None:
    """What `decoding.json` of a run folder holds, or None where the run has not been tuned.

    Raises:
        UserError: where the file is broken, naming everything that is wrong.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    record = read_json(path)
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        found = record.get("schema") if isinstance(record, dict) else type(record).__name__
        raise UserError(f"{path} has schema {found!r}", expected=f"schema {SCHEMA}", fix="tune again (--tune true)")
    kinds = {"split": str, "lm": str, "lm_sha256": str, "beam_width": int, "lm_weight": float, "word_score": float}
    problems = []
    for name, kind in kinds.items():
        value = record.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
            problems.append(f"{name} is {value!r}; expected {kind.__name__}")
    raise_all(problems, str(path))
    return record


def _check_split(split: str, data: DataArguments) -> None:
    if split != data.dev_split or split == data.test_split:
        raise UserError(
            f"tuning on split '{split}'",
            expected=f"the split the run was tuned on ('{data.dev_split}'), apart from its test split "
            f"('{data.test_split}'): weights chosen on test make its WER worthless",
            fix="leave out --split",
        )


def _check_language_model(score: ScoreArguments, tuned: dict[str, Any]) -> None:
    found = sha256_of_file(Path(given(score.lm, "lm")))
    if found != tuned["lm_sha256"]:
        state = "does not exist" if found is None else "has changed since"
        raise UserError(
            f"the language model '{score.lm}' that {FILE} was tuned for {state}",
            fix="give the file with --lm FILE, tune again (--tune true), or search without one (--lm none)",
        )


def _filled(score: ScoreArguments, tuned: dict[str, Any]) -> ScoreArguments:
    values = {name: default if tuned.get(name) is None else tuned[name] for name, default in DEFAULTS.items()}
    gaps = {name: value for name, value in values.items() if getattr(score, name) is None}
    lm = None if score.lm == NO_LM else score.lm or tuned.get("lm")
    changes: dict[str, Any] = {"lm": lm, **gaps}
    return dataclasses.replace(score, **changes)


def _sentence(score: ScoreArguments, origin: str) -> str:
    if score.lm is None:
        return f"beam search: width {score.beam_width}, no language model" + (f"; {origin}" if FILE in origin else "")
    return (
        f"beam search: width {score.beam_width}, language model {score.lm}, weight {score.lm_weight:g}, "
        f"word score {score.word_score:g}; {origin}"
    )


def _summed(counts: Sequence[UtteranceCounts]) -> UtteranceCounts:
    names = ("substitutions", "deletions", "insertions", "hits")
    return UtteranceCounts(**{name: sum(getattr(count, name) for count in counts) for name in names})
