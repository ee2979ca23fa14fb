"""Tables: the numbers are those of the JSON, the columns align, and what cannot be compared is refused."""

from __future__ import annotations

import csv
import io

import pytest

from kd_asr_slr.errors import UserError
from kd_asr_slr.reporting.tables import comparison_csv, comparison_table, markdown_table, speakers_csv


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


def test_the_numbers_are_those_of_the_json(make_run, score):
    other = {**score, "substitutions": 500, "deletions": 300, "insertions": 308, "wer": 0.2, "wra": 0.25}
    table = comparison_table([make_run("a"), make_run("b", [other], teachers=[], parameters=10).path], "dev")
    assert "split dev, decoder greedy, protocol official-sclite: 540 utterances, 5,540 reference tokens" in table
    assert cells(table, "run") == {
        "a": {
            "run": "a", "model": "bilstm_ctc", "parameters": "1,234,567", "MB": "4.94", "teachers": "jackson, nicolas",
            "aggregation": "route", "WER": "25.69", "95 % interval": "24.37 to 27.01", "WRA": "12.96",
            "S / D / I": "710 / 538 / 175",
        },
        "b": {
            "run": "b", "model": "bilstm_ctc", "parameters": "10", "MB": "4.94", "teachers": "-", "aggregation": "-",
            "WER": "20.00", "95 % interval": "24.37 to 27.01", "WRA": "25.00", "S / D / I": "500 / 300 / 308",
        },
    }  # fmt: skip
    speakers = cells(table, "speaker")
    assert list(speakers) == ["phoenix/Signer01", "phoenix/Signer05"]
    assert speakers["phoenix/Signer05"] == {
        "speaker": "phoenix/Signer05", "tokens": "3,000", "a": "27.19 (11.23)", "b": "27.19 (11.23)",
    }  # fmt: skip


def test_columns_align_in_a_terminal(make_run):
    table = comparison_table([make_run("a"), make_run("a-much-longer-name")], "dev")
    blocks = [block for block in table.split("\n\n") if block.startswith("|")]
    assert len(blocks) == 2
    for block in blocks:
        lines = block.splitlines()
        bars = [[place for place, character in enumerate(line) if character == "|"] for line in lines]
        assert all(line == bars[0] for line in bars)
        assert set(lines[1]) == set("|-: ")


def test_wide_letters_and_bars_keep_the_columns():
    lines = markdown_table(["run", "WER"], [["手語", "1"], ["a|b", "10"]], [False, True]).splitlines()
    assert lines[2] == "| 手語 |   1 |"
    assert lines[3] == "| a\\|b |  10 |"


def test_many_teachers_are_counted(make_run):
    run = make_run(teachers=[{"name": f"F{number:02d}"} for number in range(13)])
    assert cells(comparison_table([run], "dev"), "run")["student"]["teachers"] == "13 (F00, ...)"


def test_the_aggregation_of_cached_teachers_is_that_of_the_results_not_of_the_config(make_run):
    run = make_run(aggregation={"name": "logprob_mean", "generalist_weight": 0.0})
    assert cells(comparison_table([run], "dev"), "run")["student"]["aggregation"] == "logprob_mean"
    with pytest.raises(UserError, match="aggregation is 3; expected a name"):
        make_run("other", aggregation=3)


def test_csv_holds_the_unrounded_numbers(make_run, score):
    runs = [make_run("a"), make_run("b", [{**score, "decoder": "beam", "lm": "lm/4gram.arpa"}, score])]
    lines = list(csv.DictReader(io.StringIO(comparison_csv(runs, "dev"))))
    assert [line["run"] for line in lines] == ["a", "b"]
    assert float(lines[0]["wer"]) == 1423 / 5540
    assert (lines[0]["teachers"], lines[0]["lm"], lines[0]["seed"]) == ("jackson nicolas", "", "7")
    by_speaker = list(csv.DictReader(io.StringIO(speakers_csv(runs, "dev"))))
    assert [(line["run"], line["speaker"]) for line in by_speaker][:2] == [
        ("a", "phoenix/Signer01"),
        ("a", "phoenix/Signer05"),
    ]
    assert float(by_speaker[1]["wer"]) == 0.2719


def test_a_run_with_two_language_models_has_two_lines(make_run, score):
    scores = [{**score, "decoder": "beam", "lm": lm} for lm in (None, "lm/4gram.arpa")]
    table = comparison_table([make_run("a", scores)], "dev", "beam")
    lines = [line for line in table.splitlines() if line.startswith("| a ")]
    assert len(lines) == 2
    assert "| 4gram.arpa |" in lines[1]
    assert "a + 4gram.arpa" in table


def test_runs_of_one_name_are_told_apart_by_their_folders(make_run):
    table = comparison_table([make_run("a", name="student"), make_run("b", name="student")], "dev")
    assert [label.rsplit("/", 1)[1] for label in cells(table, "run")] == ["a)", "b)"]


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
    ],
)
def test_what_cannot_be_compared_is_refused_with_both_sides(make_run, score, changes, results, message):
    runs = [make_run("a"), make_run("b", [{**score, **changes}], **results)]
    with pytest.raises(UserError) as error:
        comparison_table(runs, "dev")
    assert "these runs cannot be compared" in str(error.value)
    assert message in str(error.value)


def test_several_protocols_need_a_choice(make_run, score):
    run = make_run("a", [score, {**score, "protocol": "raw"}])
    with pytest.raises(UserError, match="has scores by official-sclite and raw; expected one protocol"):
        comparison_table([run], "dev")
    assert "protocol raw:" in comparison_table([run], "dev", protocol="raw")


def test_missing_scores_and_folders_are_named_all_at_once(make_run, tmp_path):
    with pytest.raises(UserError) as error:
        comparison_table([make_run("a"), tmp_path / "nowhere", make_run("b", [])], "test")
    message = str(error.value)
    assert "has no score for split test, decoder greedy (it has: dev, greedy, official-sclite)" in message
    assert f"recipes/score.py --run {tmp_path / 'a'} --split test --decoder greedy" in message
    assert f"there is no folder {tmp_path / 'nowhere'}" in message
    assert "(it has: none)" in message


def test_an_empty_comparison_is_refused():
    with pytest.raises(UserError, match="there are no runs to compare"):
        comparison_table([], "test")
