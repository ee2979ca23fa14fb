"""Tables as texts: columns that align, LaTeX that is escaped, files by their suffix."""

from __future__ import annotations

import csv
import io
import json

import pytest

from kd_asr_slr.errors import UserError
from kd_asr_slr.reporting.overview import overview
from kd_asr_slr.reporting.tables import Page, Table, latex_table, latex_text, markdown_table, shown_p


def test_wide_letters_and_bars_keep_the_columns():
    lines = markdown_table(["run", "WER"], [["手語", "1"], ["a|b", "10"]], [False, True]).splitlines()
    assert lines[2] == "| 手語 |   1 |"
    assert lines[3] == "| a\\|b |  10 |"


def test_latex_has_the_rules_of_booktabs_and_no_loose_characters():
    table = Table(
        ["run", "WER", "95 % interval"], [["kd_route & {x}\\y", "25.69", "24.37 to 27.01"]], [False, True, True]
    )
    lines = [line.strip() for line in latex_table(table, "50 % of #1").splitlines()]
    assert lines[2:5] == [r"\caption{50 \% of \#1}", r"\begin{tabular}{lrr}", r"\toprule"]
    assert lines[5:8] == [
        r"run & WER & 95 \% interval \\",
        r"\midrule",
        r"kd\_route \& \{x\}\textbackslash{}y & 25.69 & 24.37--27.01 \\",
    ]
    assert lines[8:] == [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    assert latex_text("25.69 +- 0.31 (24.37 to 27.01)") == r"25.69 $\pm$ 0.31 (24.37--27.01)"
    assert latex_text("from a to b, 1 to 2") == "from a to b, 1--2"


def test_a_page_is_written_in_the_form_of_its_suffix(tmp_path):
    page = Page("What it is.", (("", Table(["a"], [["x"]], [False])),), ({"a": 1 / 3, "b": None},), {"a": 1 / 3})
    for suffix in (".md", ".tex", ".csv", ".json"):
        page.write(tmp_path / "tables" / f"t{suffix}")
    assert (tmp_path / "tables/t.md").read_text() == page.markdown() == "What it is.\n\n| a   |\n| --- |\n| x   |\n"
    assert r"\toprule" in (tmp_path / "tables/t.tex").read_text()
    assert json.loads((tmp_path / "tables/t.json").read_text()) == {"a": 1 / 3}  # whole precision
    (line,) = csv.DictReader(io.StringIO((tmp_path / "tables/t.csv").read_text()))
    assert (float(line["a"]), line["b"]) == (1 / 3, "")


def test_p_values():
    assert [shown_p(value) for value in (None, 0.0, 0.00049, 0.0005, 0.0414, 1.0)] == [
        "-", "< 0.001", "< 0.001", "0.001", "0.041", "1.000",
    ]  # fmt: skip


def test_the_overview_lists_any_corpora_and_names_every_run_without_a_score(make_run):
    one, two = make_run("speech", name="speech"), make_run("sign", name="sign", corpus="other")
    page = overview([one, two], split="dev")
    assert [line.split("|")[1].strip() for line in page.markdown().splitlines()[2:]] == ["phoenix", "other"]
    assert [record["wer"] for record in page.records] == [1423 / 5540] * 2
    with pytest.raises(UserError, match="speech has no score of split test(.|\n)*sign has no score of split test"):
        overview([one, two], split="test")
