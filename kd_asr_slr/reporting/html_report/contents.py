"""Everything a report says, as plain values: read from run folders, ready for the page and for JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_asr_slr.errors import UserError
from kd_asr_slr.reporting.comparison import comparison
from kd_asr_slr.reporting.curves import overview_lines
from kd_asr_slr.reporting.history import Record, read_history
from kd_asr_slr.reporting.html_report.errors import Aligned, aligned, by_length, confusions
from kd_asr_slr.reporting.html_report.media import Budget, medium_of
from kd_asr_slr.reporting.html_report.teachers import outputs_of, teachers_of, teaching_matrix
from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.reporting.scored_runs import ScoredRun, read_scored
from kd_asr_slr.reporting.tables import NOTHING, Page, aggregation_of, shown_teachers
from kd_asr_slr.reporting.verdicts import verdict_of
from kd_asr_slr.scoring.protocols import get_protocol

MAX_TEACHERS_SHOWN = 4  # whose outputs stand below an utterance, where none is its speaker's own


@dataclass(frozen=True)
class Limits:
    """What bounds the size of the file.

    Args:
        worst: utterances with the most errors that are shown.
        best: utterances with the fewest.
        pairs: confused pairs of a run.
        media_mb: recordings and drawings, MB in all (as they stand in the file).
    """

    worst: int = 30
    best: int = 10
    pairs: int = 25
    media_mb: float = 4.0


@dataclass(frozen=True)
class RunPart:
    """What the report says of one run.

    Args:
        name: as in the tables.
        facts: (name, value) lines.
        verdict: lines on held-out speakers; empty where none were held out.
        history: the trainer's log; empty where there is none.
        confusions: (kind, (reference, hypothesis), how often).
        lengths: see `errors.by_length`.
        matrix: see `teachers.teaching_matrix`.
    """

    name: str
    facts: list[tuple[str, str]]
    verdict: list[str]
    history: list[Record]
    confusions: list[tuple[str, tuple[str | None, str | None], int]]
    lengths: dict[str, Any] | None
    matrix: dict[str, Any] | None


@dataclass(frozen=True)
class Utterance:
    """One utterance that is shown.

    Args:
        id, speaker: of the row.
        order: "worst" or "best".
        outputs: what every run recognised, by the run's name.
        teachers: what teachers and the baseline recognised, by their names.
        medium: see `media.medium_of`.
    """

    id: str
    speaker: str
    order: str
    outputs: dict[str, Aligned]
    teachers: dict[str, Aligned]
    medium: dict[str, str] | None


@dataclass(frozen=True)
class Contents:
    """A whole report.

    Args:
        title: of the page.
        page: the comparison of the runs.
        runs: one part a run.
        utterances: those that are shown.
        decoder: whose output is aligned.
        total: utterances of the split.
        notes: what is not shown, and why.
        target_wer: a WER to reach, drawn in the curves.
    """

    title: str
    page: Page
    runs: list[RunPart]
    utterances: list[Utterance]
    decoder: str
    total: int
    notes: list[str]
    target_wer: float | None = None


def report_contents(
    runs: Iterable[RunFolder | str | Path],
    split: str = "test",
    decoder: str = "greedy",
    protocol: str | None = None,
    *,
    baseline: str | None = None,
    media: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    target_wer: float | None = None,
) -> Contents:
    """Gather what a report shows.

    Args:
        runs: run folders; with several, the first one decides which utterances are shown.
        split: the split that was scored.
        decoder: whose output is aligned and whose rates are tested; the tables have every decoder's WER.
        protocol: which protocol, where runs were scored with several.
        baseline: the run that every other one is tested against.
        media: id -> file of the utterances, where they are on this machine.
        limits: what bounds the size of the file.
        target_wer: a WER to reach, a fraction, drawn in the curves; default: the first run's.

    Raises:
        UserError: as `comparison`; and where the first run was not scored with `decoder`.
    """
    limits = limits or Limits()
    folders = [run if isinstance(run, RunFolder) else RunFolder(run) for run in runs]
    scored = [_best_lm(group) for group in _by_folder(read_scored(folders, split, None, protocol), decoder)]
    page = comparison(folders, split, None, protocol, baseline=baseline, main=scored[0].decoding)
    alignments = {run.label: aligned(run.rows, get_protocol(run.score["protocol"])) for run in scored if run.rows}
    notes = [f"{run.label} has no predictions of this split and decoder" for run in scored if not run.rows]
    unscored = [folder for folder in folders if folder.path not in {run.folder.path for run in scored}]
    notes += [f"{folder.path} was not scored with decoder {decoder}" for folder in unscored]
    parts = [_run_part(run, alignments.get(run.label), limits, split) for run in scored]
    budget = Budget(int(limits.media_mb * 1e6))
    utterances = _utterances(scored, alignments, limits, media or {}, budget)
    if budget.refused:
        notes.append(f"{budget.refused} recordings or drawings are left out: more than {limits.media_mb:g} MB in all")
    if target_wer is None:
        target_wer = scored[0].folder.config().get("target_wer")
    title = scored[0].label if len(folders) == 1 else f"{len(folders)} runs on {scored[0].results['corpus']}"
    total = scored[0].score["utterances"]
    return Contents(title, page, parts, utterances, decoder, total, notes, target_wer)


# -- inside ----------------------------------------------------------------------------------------------------


def _by_folder(runs: Sequence[ScoredRun], decoder: str) -> list[list[ScoredRun]]:
    groups: dict[Path, list[ScoredRun]] = {}
    for run in runs:
        if run.score["decoder"] == decoder:
            groups.setdefault(run.folder.path, []).append(run)
    if not groups:
        there = ", ".join(dict.fromkeys(run.score["decoder"] for run in runs))
        raise UserError(f"no run was scored with decoder '{decoder}'", f"one of {there}", "name it as --decoder")
    return list(groups.values())


def _best_lm(runs: Sequence[ScoredRun]) -> ScoredRun:
    """Of several language models, the one whose predictions are there."""
    return next((run for run in runs if run.rows), runs[0])


def _run_part(run: ScoredRun, alignments: Sequence[Aligned] | None, limits: Limits, split: str) -> RunPart:
    config = run.folder.config()
    try:
        history = read_history(run.folder)
    except UserError:  # the log may have been left behind when the folder was copied
        history = []
    return RunPart(
        run.label,
        _facts(run, config, history),
        verdict_of(run.folder),
        history,
        confusions(alignments, limits.pairs) if alignments else [],
        by_length(alignments) if alignments else None,
        teaching_matrix(config, split),
    )


def _facts(run: ScoredRun, config: dict[str, Any], history: Sequence[Record]) -> list[tuple[str, str]]:
    results = run.results
    model, training = results["model"], results.get("training", {})
    found = [
        ("folder", str(run.folder.path)),
        ("recipe", results["recipe"]),
        ("model", f"{model['type']}, {model['parameters']:,} parameters, {model['bytes'] / 1e6:.2f} MB"),
        ("teachers", shown_teachers(results)),
        ("aggregation", aggregation_of(results, config) or NOTHING),
        ("seed", str(results["seed"])),
    ]
    if results["teachers"]:
        losses = ", ".join([*(config.get("soft_losses") or ()), *(config.get("hard_losses") or ())])
        weights = ", ".join(f"{name} {config[name]}" for name in ("alpha", "beta", "gamma") if name in config)
        found += [("losses", f"{losses} ({weights})"), ("temperature", str(config.get("temperature", NOTHING)))]
    seconds = training.get("seconds")
    found += [("training", f"{seconds:,.0f} s")] if seconds else []
    return found + overview_lines(history, {})


def _utterances(
    runs: Sequence[ScoredRun],
    alignments: Mapping[str, Sequence[Aligned]],
    limits: Limits,
    media: Mapping[str, str],
    budget: Budget,
) -> list[Utterance]:
    """The worst and the best utterances of the first run, with what all runs, teachers and baselines recognised."""
    if runs[0].label not in alignments:
        return []
    by_id = {label: {item.id: item for item in items} for label, items in alignments.items()}
    # Of equal rates the longer utterance says more; then by id, so that a report is the same each time.
    ordered = sorted(alignments[runs[0].label], key=lambda item: (-item.wer, -item.length, item.id))
    worst = [item for item in ordered[: limits.worst] if item.errors]
    rest = ordered[len(worst) :]
    best = sorted(rest, key=lambda item: (item.wer, -item.length, item.id))[: limits.best]
    others = _other_outputs(runs)
    config, protocol = runs[0].folder.config(), get_protocol(runs[0].score["protocol"])
    found = []
    for order, items in (("worst", worst), ("best", best)):
        for item in items:
            outputs = {run.label: by_id[run.label][item.id] for run in runs if run.label in by_id}
            rows = {name: {"id": item.id, "speaker": item.speaker, "reference": item.reference, "hypothesis": text}
                    for name, text in _heard_by(others, item)}  # fmt: skip
            teachers = {name: aligned([row], protocol)[0] for name, row in rows.items()}
            medium = medium_of(media[item.id], config, budget) if item.id in media else None
            found.append(Utterance(item.id, item.speaker, order, outputs, teachers, medium))
    return found


def _other_outputs(runs: Sequence[ScoredRun]) -> list[tuple[str, Any, dict[str, str]]]:
    """(name, teacher or None for a baseline, outputs by id) of everyone that the runs' configs name."""
    shown = {run.folder.path.resolve() for run in runs}
    found: dict[tuple[Path, str | None], tuple[str, Any, dict[str, str]]] = {}
    for run in runs:
        config, split = run.folder.config(), run.score["split"]
        for teacher in teachers_of(config):
            if teacher.path.resolve() not in shown:
                outputs = outputs_of(teacher.path, split)
                found[teacher.path, teacher.speaker] = (f"{teacher.name} (teacher)", teacher, outputs)
        baseline = config.get("baseline_run")
        if baseline and Path(baseline).resolve() not in shown:
            found[Path(baseline), None] = (f"{Path(baseline).name} (baseline)", None, outputs_of(Path(baseline), split))
    return list(found.values())


def _heard_by(others: Sequence[tuple[str, Any, dict[str, str]]], item: Aligned) -> list[tuple[str, str]]:
    """Outputs of the speaker's own teachers and of the baselines; of some teachers where none is the speaker's own."""
    there = [(name, teacher, outputs[item.id]) for name, teacher, outputs in others if item.id in outputs]
    own = [(name, text) for name, teacher, text in there if teacher is not None and teacher.teaches(item.speaker)]
    free = [(name, text) for name, teacher, text in there if teacher is not None and teacher.speaker is None]
    foreign = [(name, text) for name, teacher, text in there if teacher is not None]
    baselines = [(name, text) for name, teacher, text in there if teacher is None]
    return list(dict.fromkeys([*(own + free or foreign)[:MAX_TEACHERS_SHOWN], *baselines]))
