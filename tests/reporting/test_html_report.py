"""The report: its figures are those of the JSON, nothing breaks out of it, and a browser can use it."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_scene import CONTRASTS, NASTY, chromium, log_records, rows_of, scored_run, set_dark, write_recording

from kd_asr_slr.errors import UserError
from kd_asr_slr.processing.landmarks import PARTS
from kd_asr_slr.reporting.html_report.charts import Line, bar_chart, line_chart
from kd_asr_slr.reporting.html_report.contents import Limits, report_contents
from kd_asr_slr.reporting.html_report.errors import aligned, by_length, confusions, kind_of
from kd_asr_slr.reporting.html_report.media import Budget, medium_of, skeleton_strip
from kd_asr_slr.reporting.html_report.page import render_report, write_report
from kd_asr_slr.reporting.html_report.teachers import teachers_of, teaching_matrix
from kd_asr_slr.scoring.protocols import get_protocol
from kd_asr_slr.scoring.score import score_predictions


@pytest.fixture()
def student(tmp_path: Path):
    """A student with two teachers, one bound to each speaker, and a baseline beside it."""
    for name, share in (("t0", 12), ("t1", 8), ("baseline", 2)):
        scored_run(tmp_path / name, rows_of(share))
    teachers = [f"{place}={tmp_path / name}" for place, name in enumerate(("t0", "t1"))]
    return scored_run(tmp_path / "student", rows_of(4), teachers=teachers, baseline_run=str(tmp_path / "baseline"))


def data_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="report-data">(.*?)</script>', page, re.S)[1])


# -- figures ---------------------------------------------------------------------------------------------------


def test_the_page_shows_what_the_json_says(student):
    contents = report_contents([student])
    page = render_report(contents)
    score = student.read_results()["scores"][0]
    data = data_of(page)
    assert data["comparison"]["lines"][0]["decoders"]["greedy"]["runs"][0]["score"] == score
    assert data["runs"][0]["history"] == log_records()
    low, high = score["wer_ci95"]
    assert f">{100 * score['wer']:.2f} ({100 * low:.2f} to {100 * high:.2f})</td>" in page
    assert "protocol words (words|ref:words|hyp:words|costs:unit" in page
    shown = {item["id"]: item for item in data["utterances"]}
    kept = {row["id"]: row for row in student.read_predictions("test")}
    for name, item in shown.items():
        pairs = item["outputs"]["student"]["pairs"]
        assert [token for token, _ in pairs if token is not None] == kept[name]["reference"].upper().split()
        assert [token for _, token in pairs if token is not None] == kept[name]["hypothesis"].upper().split()


def test_worst_come_first_best_follow_and_the_number_is_bounded(student):
    contents = report_contents([student], limits=Limits(worst=3, best=2))
    assert [item.order for item in contents.utterances] == ["worst"] * 3 + ["best"] * 2
    rates = [item.outputs["student"].wer for item in contents.utterances]
    assert rates[:3] == sorted(rates[:3], reverse=True) and rates[3:] == [0.0, 0.0]
    everything = report_contents([student], limits=Limits(worst=999, best=999))
    assert len(everything.utterances) == 24 == len({item.id for item in everything.utterances})
    assert "5 of 24 are shown" in render_report(contents)


def test_outputs_of_the_speakers_own_teacher_and_the_baseline_stand_below(student):
    for item in report_contents([student]).utterances:
        assert set(item.outputs) == {"student"}
        assert set(item.teachers) == {f"t{item.speaker[-1]} (teacher)", "baseline (baseline)"}
    both = report_contents([student, student.path.parent / "baseline"], baseline="baseline")
    assert set(both.utterances[0].outputs) == {"student", "baseline"}
    assert "baseline (baseline)" not in both.utterances[0].teachers
    assert "p (matched pairs)" in render_report(both)


def test_the_matrix_has_the_rates_of_the_teachers_and_says_who_teaches_whom(student, tmp_path):
    matrix = teaching_matrix(student.config(), "test")
    assert matrix["speakers"] == ["s/0", "s/1"]
    for place, row in enumerate(matrix["rows"]):
        rates = score_predictions(rows_of((12, 8)[place]), "test", "greedy", resamples=1)["by_speaker"]
        assert row["own"] == [f"s/{place}"]
        assert row["wer"] == {speaker: pytest.approx(rates[speaker]["wer"]) for speaker in rates}
    page = render_report(report_contents([student]))
    assert page.count('aria-label="teaches this speaker"') == 2
    assert teaching_matrix({"teachers": [str(tmp_path / "nowhere")]}, "test") is None


def test_a_folder_of_adapted_teachers_is_read_with_its_cross_scores(tmp_path):
    for name in ("anna", "bert"):
        scored_run(tmp_path / "teachers" / name, rows_of(6))
    scores = {who: {f"s/{name}": {"wer": rate, "wra": 0.5} for name, rate in (("anna", 0.1), ("bert", 0.4))}
              for who in ("generalist", "anna", "bert")}  # fmt: skip
    content = {"schema": 1, "own": {"anna": "s/anna", "bert": "s/bert"}, "dev": scores, "test": scores}
    (tmp_path / "teachers" / "who_scores_what.json").write_text(json.dumps(content))
    config = {"teachers": [str(tmp_path / "teachers")]}
    assert [(teacher.name, teacher.speaker) for teacher in teachers_of(config)] == [
        ("anna", "s/anna"), ("bert", "s/bert"),
    ]  # fmt: skip
    matrix = teaching_matrix(config, "test")
    assert [(row["teacher"], row["own"], row["wer"]["s/bert"]) for row in matrix["rows"]] == [
        ("anna", ["s/anna"], 0.4), ("bert", ["s/bert"], 0.4),
    ]  # fmt: skip


def test_confusions_and_lengths_by_hand():
    rows = [
        {"id": "1", "speaker": "s", "reference": "A B", "hypothesis": "A C"},
        {"id": "2", "speaker": "s", "reference": "A B C", "hypothesis": "A C C D"},
        {"id": "3", "speaker": "s", "reference": "B A", "hypothesis": "A"},
    ]
    items = aligned(rows, get_protocol("words"))
    assert confusions(items, 9) == [
        ("substitution", ("B", "C"), 2), ("insertion", (None, "D"), 1), ("deletion", ("B", None), 1),
    ]  # fmt: skip
    assert confusions(items, 1) == [("substitution", ("B", "C"), 2)]
    assert by_length(items) == {
        "unit": "tokens",
        "bins": [{"name": "2", "wer": 0.5, "utterances": 2}, {"name": "3", "wer": 2 / 3, "utterances": 1}],
    }
    words = [{**row, "reference": "A" * length} for row, length in zip(rows, (1, 4, 4), strict=True)]
    assert [part["name"] for part in by_length(aligned(words, get_protocol("words")))["bins"]] == ["1", "4"]
    assert "".join(kind_of(pair) for pair in items[1].pairs) == "CSCI"


@pytest.mark.parametrize("lengths", [range(1, 41), [1] * 30 + list(range(2, 22)), [3] * 9 + [50]])
def test_every_utterance_is_in_one_bin(lengths):
    rows = [
        {"id": str(n), "speaker": "s", "reference": "A " * length, "hypothesis": ""} for n, length in enumerate(lengths)
    ]
    bins = by_length(aligned(rows, get_protocol("words")))["bins"]
    assert sum(part["utterances"] for part in bins) == len(rows) and len(bins) <= 8
    assert all(part["wer"] == 1.0 for part in bins)


# -- safety and size -------------------------------------------------------------------------------------------


def test_texts_and_ids_are_escaped(student):
    page = render_report(report_contents([student]))
    assert NASTY not in page and "<b>" not in page
    assert page.count("<script") == 2 and page.count("</script>") == 2
    assert "&lt;b&gt;&amp;" in page
    assert NASTY in {item["id"] for item in data_of(page)["utterances"]}


def test_nothing_is_loaded(student):
    page = render_report(report_contents([student]))
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert "default-src 'none'" in page and "@import" not in page and "url(" not in page


def test_recordings_are_put_in_up_to_the_limit(student, tmp_path):
    media = {row["id"]: str(write_recording(tmp_path / f"{n}.wav")) for n, row in enumerate(rows_of(4))}
    whole = report_contents([student], media=media)
    page = render_report(whole)
    assert page.count('src="data:audio/wav;base64,') == len(whole.utterances)
    small = report_contents([student], media=media, limits=Limits(media_mb=0.01))
    shown = sum(item.medium is not None for item in small.utterances)
    assert 0 < shown < len(small.utterances)
    assert f"{len(small.utterances) - shown} recordings or drawings are left out: more than 0.01 MB" in small.notes[0]
    assert len(page) - len(render_report(small)) > 10_000
    assert medium_of(tmp_path / "nowhere.wav", {}, Budget(10**6)) is None


def test_skeletons_of_landmarks(tmp_path):
    rng = np.random.default_rng(0)
    features = rng.random((20, 543 * 3)).astype(np.float32)
    strip = skeleton_strip(features, "mediapipe_holistic")
    assert strip.count("<g ") == 8 and strip.count("<path") == 24 and "8 of 20 frames" in strip
    hand = PARTS["right_hand"]
    features[:, 3 * hand.start : 3 * hand.stop] = 0.0  # missing
    assert skeleton_strip(features, "raw").count('class="right_hand" d=""') == 8  # found by its width
    with pytest.raises(UserError, match="7 values a frame are no landmarks"):
        skeleton_strip(np.ones((4, 7), np.float32), "mediapipe_holistic")
    np.save(tmp_path / "a.npy", rng.random((4, 7)).astype(np.float32))
    assert medium_of(tmp_path / "a.npy", {"features": "raw"}, Budget(10**6)) is None


def test_a_run_without_log_predictions_or_the_decoder(student, tmp_path):
    (student.path / "history.json").unlink()
    (student.path / "predictions-test.jsonl").unlink()
    contents = report_contents([student])
    assert contents.utterances == [] and contents.notes == ["student has no predictions of this split and decoder"]
    page = render_report(contents)
    assert 'id="curves"' not in page and 'id="utterances"' not in page
    with pytest.raises(UserError, match="no run was scored with decoder 'beam'; expected one of greedy"):
        report_contents([student], decoder="beam")
    with pytest.raises(UserError, match="there is no folder"):
        report_contents([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="there are no runs to compare"):
        report_contents([])


# -- charts ----------------------------------------------------------------------------------------------------


def test_charts_of_nothing_one_point_and_zeros():
    assert "nothing was logged" in line_chart("Losses", [Line("total", [])], "loss")
    assert "nothing was logged" in line_chart("Rate", [Line("rate", [(1.0, 0.0)])], "rate", log=True)
    chart = line_chart(
        "<Losses>", [Line("<total>", [(1.0, 0.5)])], "loss", target=(0.1, "target"), star=(1.0, 0.5, "b")
    )
    assert "nan" not in chart.lower().replace("nano", "") and "&lt;total&gt;" in chart and "<total>" not in chart
    bars = bar_chart("Errors", ["1", "2"], [("a", [10.0, None]), ("b", [0.0, 5.0])], "%")
    assert bars.count("<title>") == 3 and "a: 1 10; b: 1 0, 2 5" in bars


def test_long_logs_are_thinned():
    points = [(float(epoch), 1.0 / epoch) for epoch in range(1, 5001)]
    chart = line_chart("Losses", [Line("total", points)], "loss")
    assert chart.count("<circle") == 120 and "epoch 1:" in chart and "epoch 5000:" in chart


# -- in a browser ----------------------------------------------------------------------------------------------


def test_in_a_browser(student, tmp_path):
    """One start of Chromium for all that only a browser can tell: it takes seconds."""
    media = {"u04": str(write_recording(tmp_path / "a.wav"))}
    path = write_report(
        report_contents([student, tmp_path / "baseline"], baseline="baseline", media=media, target_wer=0.2),
        tmp_path / "report.html",
    )
    with chromium(tmp_path / "profile") as browser:
        browser.get(path.as_uri())
        assert browser.title == "2 runs on s - report"  # no script of a text has run

        pixels = np.asarray(Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("L"))
        assert pixels.shape == (1200, 1280) and 0.01 < (pixels < 128).mean() < 0.5

        sorts_by_click_and_key(browser)
        filters(browser)
        browser.execute_script("for (const item of document.querySelectorAll('details')) item.open = true")
        for dark in (False, True):
            set_dark(browser, dark)
            contrasts = browser.execute_script(CONTRASTS)
            assert len(contrasts) > 300
            assert [found for found in contrasts if found[0] < 4.5] == []

        metrics = {"width": 375, "height": 800, "deviceScaleFactor": 1, "mobile": True}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        assert browser.execute_script("return document.documentElement.scrollWidth") == 375
        unnamed = browser.execute_script(
            "return [...document.querySelectorAll('[role=img], audio, input, [role=region], button')].filter((item) =>"
            " !(item.ariaLabel || item.textContent.trim() || (item.labels && item.labels.length))).length"
        )
        assert unnamed == 0
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def sorts_by_click_and_key(browser) -> None:
    """A click on the head of the WER sorts the lines upwards, Enter on it downwards."""

    def rates() -> list[float]:
        cells = browser.find_elements("css selector", f"#runs-table tbody tr > :nth-child({column})")
        return [float(cell.text.split()[0]) for cell in cells]

    heads = browser.find_elements("css selector", "#runs-table thead th")
    column = [head.text for head in heads].index("greedy WER") + 1
    head = heads[column - 1]
    before = rates()
    button = head.find_element("tag name", "button")
    button.click()
    assert head.get_attribute("aria-sort") == "ascending" and rates() == sorted(before)
    button.send_keys("\ue007")  # Enter
    assert head.get_attribute("aria-sort") == "descending" and rates() == sorted(before, reverse=True)
    assert sorted(before) != sorted(before, reverse=True)
    assert [item.get_attribute("aria-sort") for item in heads].count(None) == len(heads) - 1


def filters(browser) -> None:
    field = browser.find_element("id", "filter")
    field.send_keys("u04")
    shown = [item for item in browser.find_elements("class name", "utterance") if item.is_displayed()]
    assert [item.find_element("tag name", "h4").text for item in shown] == ["u04 s/0"]
    assert browser.find_element("id", "filtered").text.startswith("1 of ")
    field.send_keys("\ue003" * 3)  # Backspace
