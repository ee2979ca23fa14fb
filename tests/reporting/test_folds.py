"""The table over folds and seeds: its figures by hand from the predictions, its refusals with both sides named."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

from kd_asr_slr.errors import UserError
from kd_asr_slr.reporting.fold_runs import place_of
from kd_asr_slr.reporting.folds import fold_table
from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.scoring.score import score_predictions
from kd_asr_slr.scoring.significance import compare_systems, holm, joined, stacked

SIZE = 20
FOLDS = ("theo", "lucas")
# Right words of 20, by row, fold and seed.
RIGHT = {
    "label-only": {"theo": (8, 10), "lucas": (12, 14)},
    "kd-route": {"theo": (15, 17), "lucas": (16, 18)},
    "kd-gate": {"theo": (9, 9), "lucas": (13, 14)},
}

Make = Callable[..., RunFolder]


@pytest.fixture()
def make(tmp_path: Path) -> Make:
    def build(name: str, right: int, fold: str = "theo", seed: int = 1, **changes: Any) -> RunFolder:
        run = RunFolder(tmp_path / name)
        run.claim({"corpus": "fsdd", "aggregation": "route"}, recipe="train")
        rows = [
            {"id": f"{fold}{number}", "speaker": f"fsdd/{fold}", "reference": "ONE",
             "hypothesis": "ONE" if number < right else "TWO THREE"}
            for number in range(changes.pop("size", SIZE))
        ]  # fmt: skip
        rows = [{**row, **changes.get("known", {})} for row in rows]
        protocol = changes.pop("protocol", "words")
        changes.pop("known", None)
        facts = {"model_type": "bilstm_ctc", "parameters": 1000, "bytes": 4000, "corpus": "fsdd", "teachers": []}
        cost = {"epochs": 24.0, "steps": 100 * seed, "seconds": 30.0 if seed == 1 else None}
        run.write_results(**{**facts, "seed": seed, "training": cost, **changes})
        run.write_predictions("test", rows)
        run.add_scores(score_predictions(rows, "test", "greedy", protocol=protocol, resamples=50))
        run.finish()
        return run

    return build


@pytest.fixture()
def runs(make: Make) -> list[RunFolder]:
    return [
        make(f"{row}-{fold}-seed{seed}", right, fold, seed, teachers=["a", "b"] if row.startswith("kd") else [])
        for row, by_fold in RIGHT.items()
        for fold, rights in by_fold.items()
        for seed, right in enumerate(rights, 1)
    ]


def read_table(markdown: str, number: int) -> dict[str, list[str]]:
    """The rows of the table of this number, without header and rule: first cell -> the others."""
    tables = [block for block in markdown.split("\n\n") if block.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in tables[number].splitlines()[2:]]
    return {line[0]: line[1:] for line in cells}


def test_the_figures_by_hand(runs):
    table = fold_table(runs, baseline="label-only")
    lines = read_table(table.page().markdown(), 0)
    assert list(lines) == list(RIGHT)
    for row, by_fold in RIGHT.items():
        shares = [[right / SIZE for right in by_fold[fold]] for fold in FOLDS]
        by_seed = [mean(pair) for pair in zip(*shares, strict=True)]
        cells = lines[row]
        teachers = ["2", "route"] if row.startswith("kd") else ["-", "-"]
        assert cells[:7] == ["1,000", *teachers, "24", "150", "30", "4"]
        assert cells[7] == f"{100 * mean(by_seed):.2f}"
        assert float(cells[8]) == pytest.approx(100 * stdev(by_seed), abs=0.006)
        assert float(cells[9]) == pytest.approx(200 * (1 - mean(by_seed)), abs=0.006)  # two errors a wrong utterance
        assert read_table(table.page().markdown(), 1)[row] == [f"{100 * mean(share):.2f}" for share in shares]
        low, high = map(float, cells[11].split(" to "))
        assert 0 <= low < float(cells[7]) < high <= 100
    assert lines["label-only"][12:] == ["-", "-", "-"]
    assert lines["kd-route"][12] == "+27.50" and lines["kd-gate"][12] == "+1.25"


def errors_of(row: str, fold: str) -> list[dict[str, tuple[int, int]]]:
    return [{f"{fold}{n:02}": (int(n >= right), 1) for n in range(SIZE)} for right in RIGHT[row][fold]]


def test_differences_and_corrected_p_values_are_those_of_the_test_itself(runs):
    lines = {
        line["row"]: line for line in csv.DictReader(io.StringIO(fold_table(runs, baseline="label-only").page().csv()))
    }
    expected = {}
    for row in ("kd-route", "kd-gate"):
        sides = [[stacked(joined(errors_of(name, fold), ["1", "2"])) for name in ("label-only", row)] for fold in FOLDS]
        expected[row] = compare_systems([tuple(pair) for pair in sides], draws=50_000)
    corrected = holm([estimate.p_value for estimate in expected.values()])
    for (row, estimate), p_value in zip(expected.items(), corrected, strict=True):
        assert float(lines[row]["difference"]) == pytest.approx(estimate.value)
        assert float(lines[row]["difference_ci95_low"]) == pytest.approx(estimate.interval[0], abs=0.01)
        assert float(lines[row]["p_holm"]) == pytest.approx(p_value, abs=0.01)
    assert float(lines["kd-route"]["p_holm"]) < 0.01 < 0.3 < float(lines["kd-gate"]["p_holm"])
    assert lines["label-only"]["p"] == "" and float(lines["label-only"]["wra_lucas"]) == pytest.approx(13 / 20)


def test_wer_as_the_metric_turns_the_sign(runs):
    table = fold_table(runs, metric="wer", baseline="label-only")
    assert read_table(table.page().markdown(), 0)["kd-route"][12] == "-55.00"
    assert read_table(table.page().markdown(), 1)["kd-gate"] == ["110.00", "65.00"]
    assert "interval of the WER" in table.caption and "2 comparisons" in table.caption


def test_the_oracle_takes_the_best_of_each_fold(make, runs):
    teachers = [
        *(make(f"teachers-theo-seed1/{name}", right, "theo") for name, right in (("anna", 5), ("bert", 7))),
        make("teachers-lucas-seed1/anna", 11, "lucas"),
    ]
    table = fold_table([*runs, *teachers], oracle="teachers/*")
    assert [line.row.name for line in table.lines] == ["best of teachers/* (oracle)", *RIGHT]
    assert read_table(table.page().markdown(), 1)["best of teachers/* (oracle)"] == [
        "35.00 (teachers/bert)",
        "55.00 (teachers/anna)",
    ]
    assert "single seed" in table.caption
    with pytest.raises(UserError, match="no row is called 'nobody-\\*'; expected one of label-only, kd-route"):
        fold_table(runs, oracle="nobody-*")


def test_names():
    assert place_of("runs/kd-twice-as-long-theo-seed12") == ("kd-twice-as-long", "theo", 12)
    assert place_of("runs/teachers-theo-seed1/jackson") == ("teachers/jackson", "theo", 1)
    assert place_of("runs/student") is None


def test_microphones_and_transductive_rows_are_said(make, tmp_path):
    runs = [make(f"a-theo-seed{seed}", 9 + seed, seed=seed, known={"utterance": "one"}) for seed in (1, 2)]
    results = runs[0].read_results()
    runs[0]._write_results({**results, "untranscribed": {"utterances": 3, "transductive": True}})
    table = fold_table(runs)
    assert list(read_table(table.page().markdown(), 0)) == ["a (transductive)"]
    assert "Recordings of one utterance are drawn together" in table.caption


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("b-theo-seed1", {"corpus": "torgo"}, "a-theo-seed1 was scored with corpus fsdd, .*b-theo-seed1 with torgo"),
        ("b-theo-seed1", {"protocol": "raw"}, "a-theo-seed1 was scored with protocol words, .*b-theo-seed1 with raw"),
        ("b-theo-seed1", {"size": 21}, "a-theo-seed1 and .*b-theo-seed1 were scored on different utterances: theo20"),
        (
            "b-theo-seed1",
            {"vocabulary": {"size": 12, "fingerprint": "ff"}},
            r"a-theo-seed1 was scored with vocabulary ee \(11 labels\), .*b-theo-seed1 with ff \(12 labels\)",
        ),
        ("b-lucas-seed1", {"fold": "lucas"}, "row a has no run of fold lucas(.|\n)*row b has no run of fold theo"),
        ("teachers/a-theo-seed1", {}, "are both row a, fold theo, seed 1"),
        ("b-theo-seed2", {"seed": 3}, "b-theo-seed2 was run with seed 3; expected seed 2 as its name says"),
        ("student", {}, "student is no name of a run in a table over folds; expected <row>-<held-out speaker>-seed<N>"),
    ],
)
def test_runs_that_do_not_make_a_table_are_refused(make, name, changes, message):
    one = make("a-theo-seed1", 9, vocabulary={"size": 11, "fingerprint": "ee"})
    other = make(name, 9, **{"vocabulary": {"size": 11, "fingerprint": "ee"}, **changes})
    with pytest.raises(UserError, match=message):
        fold_table([one, other])


def test_other_mistakes(make, runs):
    with pytest.raises(UserError, match="no row is called 'labels'; expected one of label-only, kd-route, kd-gate"):
        fold_table(runs, baseline="labels")
    with pytest.raises(UserError, match="there are no runs"):
        fold_table([])
    with pytest.raises(UserError, match="unknown metric 'cer'; expected one of wra, wer"):
        fold_table(runs, metric="cer")
    with pytest.raises(UserError, match="has no score for split dev"):
        fold_table(runs, split="dev")


def test_predictions_that_are_not_those_of_the_score_are_named(make):
    run = make("a-theo-seed1", 9)
    rows = run.read_predictions("test")
    run.write_predictions("test", [{**row, "hypothesis": "ONE"} for row in rows])
    with pytest.raises(
        UserError, match=r"its predictions \(\d+ utterances\) have a WER of 0.0000, its results.json \(\d+\) 1.1000"
    ):
        fold_table([run])
