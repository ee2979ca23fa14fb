"""`recipes/report.py` as a user types it, on a run with recordings and on mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
from recipe_runs import Refuse, done, run


def test_a_report_of_a_run_with_its_recordings(speech_run: Path, tmp_path: Path) -> None:
    target = tmp_path / "reports" / "speech.html"
    shown = done(run("report", speech_run, output=target, worst=2, best=1, target_wer=0.1)).out
    page = target.read_text(encoding="utf-8")
    assert f"{target}: " in shown and " of 16 utterances" in shown
    assert 1 <= page.count('class="utterance"') <= 3
    assert page.count('src="data:audio/wav;base64,') == page.count('class="utterance"')
    assert "target WER 10.00 %" in page
    assert "data:audio" not in _page(speech_run, target, no_media=True)


def _page(folder: Path, target: Path, no_media: bool) -> str:
    done(run("report", folder, "--output", target, *["--no_media"] * no_media))
    return target.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--target_wer", "25"), "--target_wer is 25; expected a fraction between 0 and 1"),
        (("--worst", "-1"), "expected 0 or more"),
        (("--output", "report.pdf"), "expected a file that ends in .html"),
        (("--decoder", "beam"), "no run was scored with decoder 'beam'; expected one of greedy"),
        (("--split", "tset"), "has no score for split tset"),
        (("--baseline", "labels"), "no run is called 'labels'"),
    ],
)
def test_mistakes(speech_run: Path, words: tuple[str, ...], message: str) -> None:
    result = run("report", speech_run, *words)
    assert result.code == 2 and message in result.err and "Traceback" not in result.err
    assert not (speech_run / "report.html").exists()


def test_folders_that_cannot_be_shown(refuse: Refuse, speech_run: Path, feature_run: Path, broken: Path) -> None:
    refuse("report", "scored with corpus tones", words=(speech_run, feature_run))
    (broken / "results.json").write_text('{"schema": 99}')
    refuse("report", "schema is 99; expected 1", words=(broken,))
    (broken / "results.json").unlink()
    refuse("report", "has no results.json", words=(broken,))
    refuse("report", "there is no folder", words=(broken / "nowhere",))
