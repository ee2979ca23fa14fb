"""Tables as texts: columns that align, LaTeX that is escaped, files by their suffix."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess

import pytest

from kd_asr_slr.errors import UserError
from kd_asr_slr.reporting.overview import overview
from kd_asr_slr.reporting.tables import Page, Table, latex_table, latex_text, markdown_table, shown_p
from kd_asr_slr.scoring.protocols import get_protocol


def test_wide_letters_and_bars_keep_the_columns():
    lines = markdown_table(["run", "WER"], [["手語", "1"], ["a|b", "10"]], [False, True]).splitlines()
    assert lines[2] == "| 手語 |   1 |"
    assert lines[3] == "| a\\|b |  10 |"


def test_latex_has_the_rules_of_booktabs_and_no_loose_characters():
    table = Table(
        ["run", "WER", "95 % interval"], [["kd_route & {x}\\y", "25.69", "24.37 to 27.01"]], [False, True, True]
    )
    lines = [line.strip() for line in latex_table(table, "50 % of #1").splitlines()]
    assert lines[2] == r"\caption{50 \% of \#1}" and lines[3].startswith(r"\resizebox{")
    assert lines[4:6] == [r"\begin{tabular}{lrr}", r"\toprule"]
    assert lines[6:9] == [
        r"run & WER & 95 \% interval \\",
        r"\midrule",
        r"kd\_route \& \{x\}\textbackslash{}y & 25.69 & 24.37--27.01 \\",
    ]
    assert lines[9:] == [r"\bottomrule", r"\end{tabular}}", r"\end{table}"]
    assert latex_text("25.69 +- 0.31 (24.37 to 27.01)") == r"25.69 $\pm$ 0.31 (24.37--27.01)"
    assert latex_text("from a to b, 1 to 2") == "from a to b, 1--2"


def test_latex_compiles_and_every_table_fits_on_its_page(tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex (Debian: apt-get install texlive-latex-recommended)")
    nasty = 'a_b & 50 % $x$ #1 {y} \\z ~ ^ < > | " \u00fc'
    small = Table(["run", "WER"], [[nasty, "25.69 +- 0.31 (24.37 to 27.01)"]], [False, True])
    wide = Table([f"column {n}" for n in range(14)], [["22.66 (18.49 to 26.82)"] * 14] * 3, [True] * 14)
    signature = get_protocol("official-sclite").signature  # long, and without a space
    Page(
        f"Caption {nasty}, protocol official-sclite ({signature})", (("", wide), (f"Title {nasty}", small)), (), {}
    ).write(tmp_path / "table.tex")
    packages = r"\usepackage{booktabs, graphicx, rotating}\usepackage[T1]{fontenc}"
    text = rf"\documentclass{{article}}{packages}\begin{{document}}\input{{table}}\end{{document}}"
    (tmp_path / "main.tex").write_text(text)
    line = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout and (tmp_path / "main.pdf").stat().st_size > 1000


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
