"""Comparisons: the numbers are those of the JSON, tests are against scipy, and what cannot be compared is refused."""

from __future__ import annotations

import copy
import csv
import io
import json
import random
from statistics import mean, stdev

import numpy as np
import pytest
from scipy import stats

from kd_asr_slr.errors import UserError
from kd_asr_slr.reporting.comparison import comparison
from kd_asr_slr.scoring.matched_pairs import matched_pairs, segments_of
from kd_asr_slr.scoring.score import score_predictions


def cells(markdown: str, first: str) -> dict[str, dict[str, str]]:
    """The table whose first column is named `first`, read back: label -> column -> text."""
    lines = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in markdown.splitlines()]
    start = next(number for number, line in enumerate(lines) if line[0] == first)
    table = {}
    for line in lines[start + 2 :]:
        if line == [""]:
            break
        table[line[0]] = dict(zip(lines[start], line, strict=True))
    return table


def figures(record: dict, decoder: str = "greedy") -> dict:
    """What a line of the CSV file says of one decoder."""
    return {name.removeprefix(f"{decoder}/"): record[name] for name in record if name.startswith(f"{decoder}/")}


def heard(seed: int, share: float, size: int = 150) -> list[dict[str, str]]:
    """Predictions of a system that mistakes about this share of the words; the references are always the same."""
    truth, chance = random.Random(0), random.Random(seed)
    words = [f"W{number}" for number in range(12)]
    rows = []
    for number in range(size):
        reference = [truth.choice(words) for _ in range(truth.randint(3, 9))]
        guess = [chance.choice([*words, ""]) if chance.random() < share else word for word in reference]
        rows.append({"id": f"u{number:03}", "speaker": f"s/{number % 3}", "reference": " ".join(reference)})
        rows[-1] |= {"hypothesis": " ".join(guess), "band": "low" if number % 3 else "high"}
    return rows


@pytest.fixture()
def scored(make_run):
    """A run folder whose scores were counted on predictions that lie beside them."""

    def make(name: str, rows: list[dict[str, str]], decoder: str = "greedy", **changes):
        run = make_run(name, [score_predictions(rows, "test", decoder, resamples=50)], **changes)
        run.write_predictions("test", rows, decoder)
        return run

    return make


# -- rates -----------------------------------------------------------------------------------------------------


def test_the_numbers_are_those_of_the_json(make_run, score):
    other = {**score, "substitutions": 500, "deletions": 300, "insertions": 308, "wer": 0.2, "wra": 0.25}
    page = comparison([make_run("a"), make_run("b", [other], teachers=[], parameters=10).path], "dev", "greedy")
    table = page.markdown()
    assert "split dev, protocol official-sclite (official-sclite|ref:raw|hyp:phoenix2014_ctm|costs:sclite|" in table
    assert "540 utterances, 5,540 reference tokens" in table
    assert cells(table, "run") == {
        "a": {
            "run": "a", "model": "bilstm_ctc", "parameters": "1,234,567", "MB": "4.94", "teachers": "jackson, nicolas",
            "aggregation": "route", "greedy WER": "25.69 (24.37 to 27.01)", "WRA": "12.96",
            "S / D / I": "710 / 538 / 175",
        },
        "b": {
            "run": "b", "model": "bilstm_ctc", "parameters": "10", "MB": "4.94", "teachers": "-", "aggregation": "-",
            "greedy WER": "20.00 (24.37 to 27.01)", "WRA": "25.00", "S / D / I": "500 / 300 / 308",
        },
    }  # fmt: skip
    speakers = cells(table, "speaker")
    assert list(speakers) == ["phoenix/Signer01", "phoenix/Signer05"]
    assert speakers["phoenix/Signer05"] == {
        "speaker": "phoenix/Signer05", "tokens": "3,000", "a": "27.19 (11.23)", "b": "27.19 (11.23)",
    }  # fmt: skip
    kept = [line["decoders"]["greedy"] for line in json.loads(page.json())["lines"]]
    assert kept[0]["runs"][0]["score"] == score and kept[1]["runs"][0]["score"] == other


def test_columns_align_in_a_terminal(make_run):
    table = comparison([make_run("a"), make_run("a-much-longer-name")], "dev").markdown()
    blocks = [block for block in table.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 2
    for block in blocks:
        lines = block.splitlines()
        bars = [[place for place, character in enumerate(line) if character == "|"] for line in lines]
        assert all(line == bars[0] for line in bars)
        assert set(lines[1]) == set("|-: ")


def test_many_teachers_are_counted_and_those_of_a_cache_aggregated_as_the_results_say(make_run):
    teachers = [{"name": f"runs/teachers/F{number:02d}"} for number in range(13)]
    run = make_run(teachers=teachers, aggregation={"name": "logprob_mean", "generalist_weight": 0.0})
    line = cells(comparison([run], "dev").markdown(), "run")["student"]
    assert (line["teachers"], line["aggregation"]) == ("13 (F00, ...)", "logprob_mean")
    with pytest.raises(UserError, match="aggregation is 3; expected a name"):
        make_run("other", aggregation=3)


def test_csv_holds_the_unrounded_numbers_of_a_run_in_one_line(make_run, score):
    runs = [make_run("a"), make_run("b", [{**score, "decoder": "beam", "lm": "lm/4gram.arpa"}, score])]
    page = comparison(runs, "dev")
    lines = list(csv.DictReader(io.StringIO(page.csv())))
    assert [(line["run"], line["beam + 4gram.arpa/lm"]) for line in lines] == [("a", ""), ("b", "lm/4gram.arpa")]
    assert float(lines[0]["greedy/wer"]) == 1423 / 5540 and lines[0]["beam + 4gram.arpa/wer"] == ""
    assert (lines[0]["teachers"], lines[0]["seeds"], lines[0]["bytes"]) == ("jackson nicolas", "7", "4940000")
    assert float(lines[0]["greedy/by_speaker/phoenix/Signer05/wer"]) == 0.2719


def test_every_decoder_and_language_model_has_a_column_and_those_that_nobody_fills_have_none(make_run, score):
    beams = [{**score, "decoder": "beam", "lm": lm, "wer": 1108 / 5540} for lm in (None, "lm/4gram.arpa")]
    beams = [{**beam, "substitutions": 500, "deletions": 300, "insertions": 308} for beam in beams]
    closed = {**score, "decoder": "closed"}
    runs = [make_run("a", [score, *beams, closed], teachers=[]), make_run("b", [score], teachers=[])]
    page = comparison(runs, "dev")
    rate, beam = "25.69 (24.37 to 27.01)", "20.00 (24.37 to 27.01)"
    table = cells(page.markdown(), "run")
    header = ["run", "model", "parameters", "MB", "greedy WER", "beam WER", "beam + 4gram.arpa WER", "closed WER"]
    assert list(table["a"]) == [*header, "WRA", "S / D / I"]  # no teachers, no seeds, no tests
    assert list(table["a"].values())[4:] == [rate, beam, beam, rate, "12.96", "710 / 538 / 175"]
    assert list(table["b"].values())[4:] == [rate, "-", "-", "-", "12.96", "710 / 538 / 175"]
    assert "WRA, S / D / I of the first table are of greedy." in page.caption
    title, by_decoder = page.tables[1]
    assert title == "By decoder" and [tuple(line) for line in by_decoder.cells] == [
        ("a", "greedy", rate, "12.96", "710 / 538 / 175"),
        ("a", "beam", beam, "12.96", "500 / 300 / 308"),
        ("a", "beam + 4gram.arpa", beam, "12.96", "500 / 300 / 308"),
        ("a", "closed", rate, "12.96", "710 / 538 / 175"),
        ("b", "greedy", rate, "12.96", "710 / 538 / 175"),
    ]
    only = cells(comparison(runs[:1], "dev", "beam").markdown(), "run")["a"]
    assert [name for name in only if name.endswith("WER")] == ["beam WER", "beam + 4gram.arpa WER"]


def test_the_main_decoder_is_one_that_all_have_or_the_one_that_is_named(make_run, score):
    beam, other = {**score, "decoder": "beam"}, {**score, "decoder": "beam", "lm": "4gram.arpa", "wra": 0.5}
    runs = [make_run("a", [score, beam, other]), make_run("b", [beam, other])]
    assert "of the first table are of beam." in comparison(runs, "dev").caption
    page = comparison(runs, "dev", main="beam + 4gram.arpa")
    assert {name: line["WRA"] for name, line in cells(page.markdown(), "run").items()} == {"a": "50.00", "b": "50.00"}
    assert page.tables[-1][0] == "By speaker, WER % (WRA %) of beam + 4gram.arpa"
    with pytest.raises(UserError, match=r"decoder 'closed'; expected one of greedy, beam, beam \+ 4gram.arpa"):
        comparison(runs, "dev", main="closed")
    with pytest.raises(UserError, match="the baseline b was not scored with greedy; expected one of beam, beam"):
        comparison(runs, "dev", main="greedy", baseline="b")
    several = [make_run("c", [{**other, "lm": lm} for lm in ("2gram.arpa", "4gram.arpa")])]
    with pytest.raises(UserError, match=r"'beam' may be beam \+ 2gram.arpa or beam \+ 4gram.arpa"):
        comparison(several, "dev", main="beam")


def test_runs_of_one_name_are_told_apart_by_their_folders(make_run):
    table = comparison([make_run("a", name="student"), make_run("b", name="student")], "dev").markdown()
    assert [label.rsplit("/", 1)[1] for label in cells(table, "run")] == ["a)", "b)"]


def test_groups_that_every_run_knows_have_a_table(scored):
    rows = heard(1, 0.2)
    page = comparison([scored("a", rows), scored("b", heard(2, 0.2))])
    assert [title for title, _ in page.tables] == ["", "By speaker, WER % (WRA %)", "By band, WER % (WRA %)"]
    low = [row for row in rows if row["band"] == "low"]
    expected = score_predictions(low, "test", "greedy", resamples=1)
    assert cells(page.markdown(), "band")["low"]["a"] == f"{100 * expected['wer']:.2f} ({100 * expected['wra']:.2f})"
    assert page.records[0]["greedy/by_band/low/wer"] == pytest.approx(expected["wer"], abs=1e-12)


# -- tests against a baseline ----------------------------------------------------------------------------------


def test_p_values_against_scipy_and_holm(scored):
    systems = {"plain": heard(1, 0.25), "same": heard(2, 0.25), "better": heard(3, 0.15)}
    page = comparison([scored(name, rows) for name, rows in systems.items()], baseline="plain")
    records = {record["run"]: figures(record) for record in page.records}
    p_values: dict[str, list[float]] = {"bootstrap": [], "matched_pairs": []}
    base = systems["plain"]
    for name in ("same", "better"):
        record, rows = records[name], systems[name]
        segments = [
            pair
            for ours, theirs in zip(rows, base, strict=True)
            for pair in segments_of(*(text.split() for text in (
                ours["reference"], ours["hypothesis"], theirs["hypothesis"]
            )))
        ]  # fmt: skip
        expected = stats.ttest_rel(*zip(*segments, strict=True))
        assert record["z_matched_pairs"] == pytest.approx(expected.statistic)
        assert record["p_matched_pairs"] == pytest.approx(2 * stats.norm.sf(abs(expected.statistic)))
        assert record["p_matched_pairs"] == matched_pairs(segments).p_value and record["segments"] == len(segments)

        errors = np.array([[len(r["reference"].split()), _errors(r)] for r in base]).T
        ours = np.array([_errors(r) for r in rows])
        drawn = stats.bootstrap(
            (ours, errors[1], errors[0]), lambda a, b, n, axis=-1: (a - b).sum(axis) / n.sum(axis),
            paired=True, vectorized=True, n_resamples=5000, random_state=1,
        )  # fmt: skip
        value = (ours - errors[1]).sum() / errors[0].sum()
        assert record["difference"] == pytest.approx(value)
        t = value / drawn.standard_error
        assert record["p_bootstrap"] == pytest.approx(2 * stats.t.sf(abs(t), len(rows) - 1), rel=0.15, abs=0.004)
        assert record["relative_change"] == pytest.approx(record["wer"] / records["plain"]["wer"] - 1)
        for test in p_values:
            p_values[test].append(record[f"p_{test}"])
    for test, values in p_values.items():
        low, high = sorted(values)
        corrected = dict(zip(sorted(values), (min(1.0, 2 * low), max(min(1.0, 2 * low), high)), strict=True))
        found = [records[name][f"p_{test}_holm"] for name in ("same", "better")]
        assert found == pytest.approx([corrected[value] for value in values])
    assert records["better"]["p_bootstrap_holm"] < 0.05 < records["same"]["p_bootstrap_holm"]
    assert "relative_change" not in records["plain"]
    assert "Holm's, for 2 comparisons" in page.caption and "normal distribution" in page.caption


def _errors(row: dict[str, str]) -> int:
    return sum(
        sum(pair) for pair in segments_of(row["reference"].split(), row["hypothesis"].split(), row["reference"].split())
    )


def test_decoders_are_compared_with_the_same_decoder(scored, score):
    plain, better = scored("plain", heard(1, 0.3)), scored("better", heard(2, 0.2))
    beam = heard(3, 0.15)
    better.write_predictions("test", beam, "beam")
    better.add_scores(score_predictions(beam, "test", "beam", resamples=20))
    (_, better_record) = comparison([plain, better], baseline=str(plain.path)).records
    assert "relative_change" in figures(better_record)
    assert "relative_change" not in figures(better_record, "beam")  # the baseline has no such score


def test_only_the_main_decoder_is_tested_and_all_have_their_change(scored):
    runs = [scored("plain", heard(1, 0.3)), scored("better", heard(2, 0.2))]
    for seed, run in enumerate(runs):
        rows = heard(3 + seed, 0.2 - 0.1 * seed)
        run.write_predictions("test", rows, "beam")
        run.add_scores(score_predictions(rows, "test", "beam", resamples=20))
    by_main = {main: comparison(runs, baseline="plain", main=main).records[1] for main in ("greedy", "beam")}
    for main, other in (("greedy", "beam"), ("beam", "greedy")):
        tested, not_tested = figures(by_main[main], main), figures(by_main[main], other)
        assert tested["p_bootstrap"] == tested["p_bootstrap_holm"]  # one test, whatever else was decoded
        assert "p_bootstrap" not in not_tested and "relative_change" in not_tested
    page = comparison(runs, baseline="plain", main="beam")
    (better,) = [line for line in page.tables[1][1].cells if line[:2] == ["better", "greedy"]]
    assert better[-1] == f"{100 * figures(by_main['beam'])['relative_change']:+.1f}"
    assert "Holm's, for 1 comparison." in page.caption and "Without a test" not in page.caption


def test_a_baseline_without_predictions_or_errors_has_no_test(make_run, score):
    page = comparison([make_run("a"), make_run("b")], "dev", baseline="a")
    assert cells(page.markdown(), "run")["b"]["change %"] == "+0.0"
    assert "p (bootstrap)" not in cells(page.markdown(), "run")["b"]
    assert "Without a test: lines whose predictions are not there." in page.caption
    right = {**score, "substitutions": 0, "deletions": 0, "insertions": 0, "wer": 0.0}
    page = comparison([make_run("c", [right]), make_run("d")], "dev", baseline="c")
    assert "change %" not in cells(page.markdown(), "run")["d"]


def test_runs_that_are_alike_have_no_difference_and_the_json_no_infinity(scored):
    rows = heard(1, 0.2)
    page = comparison([scored("a", rows), scored("b", rows)], baseline="a")
    found = figures(page.records[1])
    assert (found["p_bootstrap"], found["p_matched_pairs"]) == (1.0, 1.0)
    assert json.loads(page.json())["lines"][1]["decoders"]["greedy"]["difference"]["bootstrap"]["degrees"] is None


def test_an_unknown_baseline_is_refused(make_run):
    with pytest.raises(UserError, match="no run is called 'labels'; expected one of a, b"):
        comparison([make_run("a"), make_run("b")], "dev", baseline="labels")


# -- seeds -----------------------------------------------------------------------------------------------------


def test_seeds_are_folded_into_mean_and_spread(scored):
    runs = [
        scored(f"{row}-seed{seed}", heard(10 * seed + place, share), seed=seed)
        for place, (row, share) in enumerate((("plain", 0.3), ("better", 0.2)))
        for seed in (1, 2, 3)
    ]
    page = comparison(runs, seeds=True, baseline="plain")
    rates = [run.read_results()["scores"][0]["wer"] for run in runs]
    line = cells(page.markdown(), "run")["plain"]
    assert line["seeds"] == "3"
    assert line["greedy WER"].startswith(f"{100 * mean(rates[:3]):.2f} +- {100 * stdev(rates[:3]):.2f} (")
    plain, better = map(figures, page.records)
    assert (plain["wer"], plain["wer_seed_sd"]) == (mean(rates[:3]), stdev(rates[:3]))
    assert plain["wer_ci95_low"] < plain["wer"] < plain["wer_ci95_high"]
    assert better["p_bootstrap"] < 0.01 and better["p_matched_pairs"] < better["p_bootstrap"]
    assert "knows nothing of the chance of the seed" in page.caption and "A single seed" not in page.caption


def test_matched_pairs_of_seeds_are_those_of_errors_averaged_over_them(scored):
    """The same run as three seeds says no more than it does alone; other seeds against a count by hand."""
    plain, better = heard(1, 0.25), heard(2, 0.18)
    alone = figures(comparison([scored("p", plain), scored("b", better)], baseline="p").records[1])
    rows = (("plain", plain), ("better", better))
    copies = [scored(f"{row}-seed{seed}", what, seed=seed) for row, what in rows for seed in (1, 2, 3)]
    folded = figures(comparison(copies, seeds=True, baseline="plain").records[1])
    for key in ("segments", "z_matched_pairs", "p_matched_pairs"):
        assert folded[key] == pytest.approx(alone[key], rel=1e-9)


def test_one_seed_twice_is_refused(make_run):
    with pytest.raises(UserError, match=r"a \(greedy\) has the seeds \[7, 7\]; expected each once"):
        comparison([make_run("a-seed1"), make_run("a-seed2")], "dev", seeds=True)


# -- refusals --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "results", "message"),
    [
        ({"protocol": "raw"}, {}, "a was scored with protocol official-sclite, b with raw"),
        ({}, {"corpus": "fsdd"}, "a was scored with corpus phoenix, b with fsdd"),
        ({"utterances": 539}, {}, "a was scored with number of utterances 540, b with 539"),
        (
            {"reference_tokens": 5541, "wer": 1423 / 5541, "by_speaker": {}},
            {},
            "a was scored with number of reference tokens 5540, b with 5541",
        ),
        (
            {"by_speaker": {"phoenix/Signer03": {"wer": 0.2, "wra": 0.1, "reference_tokens": 5540}}},
            {},
            "Signer05 (3000), b with phoenix/Signer03 (5540)",
        ),
        ({}, {"vocabulary": {"size": 9, "fingerprint": "f2"}}, "a has the vocabulary f1 (9 labels), b f2 (9 labels)"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_both_sides(make_run, score, changes, results, message):
    first = make_run("a", vocabulary={"size": 9, "fingerprint": "f1"})
    with pytest.raises(UserError) as error:
        comparison([first, make_run("b", [{**score, **changes}], **results)], "dev")
    assert "these runs cannot be compared" in str(error.value)
    assert message in str(error.value)


def test_other_utterances_of_the_same_number_are_refused(scored):
    rows = heard(1, 0.2)
    renamed = [{**rows[0], "id": "other"}, *rows[1:]]
    first = scored("a", rows)
    with pytest.raises(UserError, match="a and b were scored on different utterances: other, u000"):
        comparison([first, scored("b", renamed)])
    changed = copy.deepcopy(rows)  # two utterances of one speaker with each other's reference
    changed[0]["reference"], changed[3]["reference"] = changed[3]["reference"], changed[0]["reference"]
    with pytest.raises(UserError, match="a and c have different references of: u000, u003"):
        comparison([first, scored("c", changed)])


def test_predictions_of_another_scoring_are_refused(scored):
    run = scored("a", heard(1, 0.2))
    run.write_predictions("test", heard(2, 0.6))
    with pytest.raises(UserError, match=r"its predictions \(150 utterances\) have a WER of(.|\n)*score it again"):
        comparison([run])


def test_several_protocols_need_a_choice(make_run, score):
    run = make_run("a", [score, {**score, "protocol": "raw"}])
    with pytest.raises(UserError, match="has scores by official-sclite and raw; expected one protocol"):
        comparison([run], "dev")
    assert "protocol raw (" in comparison([run], "dev", protocol="raw").caption


def test_missing_scores_and_folders_are_named_all_at_once(make_run, tmp_path):
    with pytest.raises(UserError) as error:
        comparison([make_run("a"), tmp_path / "nowhere", make_run("b", [])], "test", "greedy")
    message = str(error.value)
    assert "has no score for split test, decoder greedy (it has: dev, greedy, official-sclite)" in message
    assert f"recipes/score.py --run {tmp_path / 'a'} --split test --decoder greedy" in message
    assert f"there is no folder {tmp_path / 'nowhere'}" in message
    assert "(it has: none)" in message


def test_an_empty_comparison_and_a_run_twice_are_refused(make_run):
    with pytest.raises(UserError, match="there are no runs to compare"):
        comparison([], "test")
    run = make_run("a")
    with pytest.raises(UserError, match="a is named twice"):
        comparison([run, run.path], "dev")
