"""The table over any runs: rates with their intervals, groups, and tests against a baseline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from kd_asr_slr.reporting.comparison_figures import contents, record
from kd_asr_slr.reporting.comparison_tables import GROUPS, decoder_table, group_table, run_table
from kd_asr_slr.reporting.lines import decodings_of, lines_of, main_decoding
from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.reporting.scored_runs import read_scored
from kd_asr_slr.reporting.systems import System, baseline_name, compared, systems_of
from kd_asr_slr.reporting.tables import Page
from kd_asr_slr.scoring.matched_pairs import FEW_SEGMENTS
from kd_asr_slr.scoring.protocols import PROTOCOLS


def comparison(
    runs: Iterable[RunFolder | str | Path],
    split: str = "test",
    decoder: str | None = None,
    protocol: str | None = None,
    *,
    baseline: str | None = None,
    seeds: bool = False,
    main: str | None = None,
) -> Page:
    """Compare runs on one split: a line a run with the WER of every decoder, then tables of decoders and groups.

    Args:
        runs: run folders.
        split: the split that was scored.
        decoder: one decoder; None: all that the runs were scored with.
        protocol: which protocol, where runs were scored with several.
        baseline: the run (its name, or its folder) that every other one is tested against, decoded alike.
        seeds: fold runs `<name>-seed<N>` into one line.
        main: the decoder whose WRA, errors, groups and tests are shown; see `lines.main_decoding`.

    Raises:
        UserError: where the runs cannot stand in one table (see `scored_runs.read_scored`), no run is the baseline, or
            none was scored with `main`.

    Example:
        >>> print(comparison(["runs/baseline", "runs/student"], baseline="baseline").markdown())
    """
    systems = systems_of(read_scored(runs, split, decoder, protocol), seeds)
    base = None if baseline is None else baseline_name(systems, baseline)
    main = main_decoding(systems, main, base)
    if base is not None:
        systems = compared(systems, base, main)
    decodings, lines = decodings_of(systems), lines_of(systems)
    tables = [("", run_table(lines, decodings, main))]
    if len(decodings) > 1:
        tables.append(("By decoder", decoder_table(lines, decodings)))
    shown = [system for system in systems if system.decoding == main]
    of_main = f" of {main}" if len(decodings) > 1 else ""
    tables += [(f"{GROUPS[key]}, WER % (WRA %){of_main}", group_table(shown, key)) for key in _groups(shown)]
    caption = _caption(systems, decodings, main, baseline)
    records = tuple(record(line, decodings) for line in lines)
    content = {"schema": 2, "caption": caption, "main_decoder": main, "lines": contents(lines)}
    return Page(caption, tuple(tables), records, content)


# -- inside ----------------------------------------------------------------------------------------------------


def _groups(systems: Sequence[System]) -> list[str]:
    """The groupings that every run knows, with the same groups."""
    found = []
    for key in GROUPS:
        names = [set(run.score.get(key) or ()) for system in systems for run in system.runs]
        if names[0] and all(other == names[0] for other in names):
            found.append(key)
    return found


def _caption(systems: Sequence[System], decodings: Sequence[str], main: str, baseline: str | None) -> str:
    first = systems[0].runs[0]
    score, several = first.score, any(len(system.runs) > 1 for system in systems)
    signature = PROTOCOLS[score["protocol"]].signature if score["protocol"] in PROTOCOLS else score["protocol"]
    text = (
        f"Corpus {first.results['corpus']}, split {score['split']}, protocol {score['protocol']} ({signature}): "
        f"{score['utterances']:,} utterances, {score['reference_tokens']:,} reference tokens. Rates in %; in brackets "
        "the 95 % interval of the WER "
    )
    text += "(seeds and utterances drawn anew)." if several else "(utterances drawn anew)."
    if several:
        text += " Of several seeds: means, +- the standard deviation over them, errors summed."
    if len(decodings) > 1:
        tests = ", changes and tests" if baseline is not None else ""
        text += f" WRA, S / D / I{tests} of the first table are of {main}."
    text += _about_tests(systems, baseline) if baseline is not None else ""
    if any(len(system.runs) == 1 for system in systems):
        text += " A single seed a run: the chance of the seed is not in these intervals" + (
            " and p-values." if baseline is not None else "."
        )
    return text


def _about_tests(systems: Sequence[System], baseline: str) -> str:
    """What the tests are, and what they do not know."""
    found = [(system, system.difference) for system in systems if system.difference]
    tested = [(system, difference) for system, difference in found if difference.bootstrap]
    matched = [difference.matched for _, difference in tested if difference.matched]
    several = any(len(system.runs) > 1 for system in systems)
    drawn = "seeds and utterances" if several else "utterances"
    text = f" Changes and tests are against {baseline}, decoded alike: change of the WER relative to the baseline's"
    if tested:
        text += (
            f"; p (bootstrap) by the paired bootstrap of {drawn} (5,000 draws, Student's t); p (matched pairs) by "
            f"MAPSSWE over segments (normal distribution); both two-sided and Holm's, for {len(tested)} "
            f"comparison{'' if len(tested) == 1 else 's'}"
        )
    text += "."
    if tested and several:
        text += (
            " Of several seeds, matched pairs take each segment's errors averaged over them: of these very runs, it "
            "knows nothing of the chance of the seed, so the bootstrap is the one to report."
        )
    if any(test.segments < FEW_SEGMENTS for test in matched):
        text += f" With fewer than {FEW_SEGMENTS} segments the normal distribution is rough."
    if any(run.rows is None for system, _ in found for run in system.runs):
        text += " Without a test: lines whose predictions are not there."
    return text
