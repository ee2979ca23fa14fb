"""The integrity report of a corpus of recordings: counts by column, what is left out, what looks odd."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from kd_asr_slr.arguments import DataArguments
from kd_asr_slr.corpora.build import load_corpus
from kd_asr_slr.corpora.integrity import render
from kd_asr_slr.training.preparation import prepare

TONE = 0.3 * np.sin(np.arange(4000) * 0.3)


def write(folder: Path, name: str, samples: np.ndarray = TONE) -> Path:
    path = folder / "audio" / name.split("_")[0] / f"{name}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, 8000, subtype="PCM_16")
    return path


def test_report_of_uaspeech(tmp_path: Path) -> None:
    (tmp_path / "word_table.tsv").write_text("block\tword_id\tword\n*\tD1\tONE\n*\tD2\tTWO\nB2\tUW1\tMOUNTAIN\n")
    for speaker in ("M04", "F03"):
        for block in ("B1", "B2", "B3"):
            for word in ("D1", "D2"):
                for microphone in ("M5", "M6"):
                    write(tmp_path, f"{speaker}_{block}_{word}_{microphone}")
    write(tmp_path, "M04_B2_UW1_M5", np.clip(5 * TONE, -1, 1))
    write(tmp_path, "M04_B2_UW1_M6", 1e-4 * TONE)
    write(tmp_path, "F03_B1_D1_M5").write_bytes(b"")  # as in the release
    write(tmp_path, "M04_B1_D1_M5").write_bytes(b"")  # not in the release
    report = prepare(DataArguments(corpus="uaspeech", data_dir=str(tmp_path)), tmp_path / "manifest.csv")
    assert [problem for problem in report.problems if "M04_B1_D1_M5.wav" in problem] == report.problems
    assert report.groups["block"] == {"B1": 6, "B2": 10, "B3": 8}
    assert report.groups["microphone"] == {"M5": 11, "M6": 13} and report.groups["band"] == {"very low": 24}
    assert report.groups["category"] == {"digit": 22, "uncommon": 2}
    assert report.speakers == {"uaspeech/F03": (11, 11 * 0.5 / 3600), "uaspeech/M04": (13, 13 * 0.5 / 3600)}
    assert report.counts["test"]["oov_types"] == 1  # MOUNTAIN
    text = render(report)
    assert "M04_B2_UW1_M5.wav: clipped (" in text and "M04_B2_UW1_M6.wav: nearly silent (below -60 dB" in text
    assert "F03_B1_D1_M5" in text and "not compared" in text and "microphone" in text
    again = load_corpus("manifest", manifest=tmp_path / "manifest.csv", name="again")
    assert sum(map(len, again.values())) == 24 and again["test"][0]["utterance"]
