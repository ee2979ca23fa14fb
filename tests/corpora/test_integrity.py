"""The integrity report, its parts, and what it says of the real PHOENIX annotations."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import soundfile

from kd_asr_slr.corpora.file_facts import FileFacts, inspect_files, is_clipped
from kd_asr_slr.corpora.integrity import Item, make_report, render
from kd_asr_slr.corpora.known_counts import KNOWN, KnownCorpus, KnownCounts
from kd_asr_slr.corpora.media import MediaHeader


def frames_needed(labels: list[str]) -> int:
    return len(labels) + sum(first == second for first, second in itertools.pairwise(labels))


def keep(split: str, text: str) -> str:
    return text


ITEMS = [
    Item("a", "train", "s1", "REGEN REGEN WOLKE", "a.npz"),
    Item("b", "train", "s2", "SONNE", "b.npz", frames=12),
    Item("c", "train", "s2", "BRUCH BRUCH", None, frames=2, left_out=True),
    Item("d", "dev", "s1", "REGEN SCHNEE SCHNEE", "d.npz"),
]
FACTS = FileFacts(
    headers={"a.npz": MediaHeader(7, width=6), "b.npz": MediaHeader(11, width=6), "d.npz": MediaHeader(4, width=6)}
)


def test_counts_by_hand() -> None:
    report = make_report("demo", ITEMS, FACTS, keep, frames_needed)
    assert report.counts == {
        "train": {
            "utterances": 3,
            "tokens": 6,
            "types": 4,
            "signers": 2,
            "frames": 19,
            "clean_tokens": 4,
            "clean_types": 3,
        },
        "dev": {
            "utterances": 1,
            "tokens": 3,
            "types": 2,
            "signers": 1,
            "frames": 4,
            "clean_tokens": 3,
            "clean_types": 2,
            "oov_tokens": 2,
            "oov_types": 1,
        },
    }
    # a has 7 frames for 4, b 12 for 1, c 2 for 3, d 4 for 4.
    assert report.infeasible["train"]["raw"] == {1: 1, 2: 2, 4: 2, 8: 2}
    assert report.infeasible["dev"]["clean"] == {1: 0, 2: 1, 4: 1, 8: 1}
    assert report.speakers == {"s1": (2, None), "s2": (1, None)}
    assert report.problems == ["b.npz: 11 frames, but the video has 12"]


def test_clean_labels_are_counted_beside_raw_ones() -> None:
    def merged(split: str, text: str) -> str:
        return " ".join(label for label, _ in itertools.groupby(text.split()))

    report = make_report("demo", ITEMS, FACTS, merged, frames_needed)
    assert report.counts["train"]["tokens"] == 6 and report.counts["train"]["clean_tokens"] == 3
    assert report.infeasible["train"]["raw"][2] == 2 and report.infeasible["train"]["clean"][2] == 0


def test_differences_to_known_counts_are_problems() -> None:
    known = KnownCorpus("a source", {"train": KnownCounts(utterances=3, tokens=7), "dev": KnownCounts(frames=5)})
    report = make_report("demo", ITEMS[:1] + ITEMS[2:], FACTS, keep, frames_needed, known)
    assert report.problems == [
        "train: 2 utterances, known are 3",
        "train: 5 tokens, known are 7",
        "dev: 4 frames, known are 5",
    ]


def test_frames_that_differ_in_most_files_are_one_problem() -> None:
    facts = FileFacts(headers={f"{number}.npz": MediaHeader(10, width=6) for number in range(21)})
    items = [Item(str(number), "train", "s", "A", f"{number}.npz", frames=20) for number in range(21)]
    (problem,) = make_report("demo", items, facts, keep, frames_needed).problems
    assert problem.startswith("21 of 21 feature files have other frames than their video, first 0.npz: 10 frames")


def test_files_are_read_once_and_every_bad_one_is_kept(tmp_path: Path) -> None:
    for name, array in {"good": np.eye(4), "x": np.eye(4), "width": np.eye(3), "nan": np.full((4, 4), np.nan)}.items():
        np.save(tmp_path / f"{name}.npy", array)
    (tmp_path / "empty.npy").write_bytes(b"")
    names = ("good", "good", "x", "width", "nan", "empty", "gone")
    facts = inspect_files(str(tmp_path / f"{name}.npy") for name in names)
    assert sorted(Path(path).name for path in facts.headers) == ["good.npy", "x.npy"]
    parts = {"width": "3 values a frame", "nan": "not finite", "empty": "0 bytes", "gone": "does not exist"}
    assert {Path(path).stem: problem for path, problem in facts.problems.items()}.keys() == parts.keys()
    for path, problem in facts.problems.items():
        assert parts[Path(path).stem] in problem


def test_recordings(tmp_path: Path) -> None:
    time = np.arange(8000) / 8000
    tone = np.sin(2 * np.pi * 200 * time)
    sounds = {"good": 0.5 * tone, "clipped": np.clip(3 * tone, -1, 1), "quiet": 1e-4 * tone, "silent": 0 * tone}
    paths = {}
    for name, samples in sounds.items():
        paths[name] = str(tmp_path / f"{name}.wav")
        soundfile.write(paths[name], samples, 8000, subtype="PCM_16")
    facts = inspect_files(paths.values())
    assert list(facts.clipped) == [paths["clipped"]] and facts.quiet == [paths["quiet"]]
    share = np.mean(np.abs(3 * tone) >= 32767 / 32768)  # what np.clip cut off
    assert facts.clipped[paths["clipped"]] == np.float64(share)
    assert list(facts.problems) == [paths["silent"]]
    items = [Item(name, "train", "theo", "ONE", path) for name, path in paths.items()]
    report = make_report("demo", items, facts, keep, frames_needed)
    assert report.counts["train"]["hours"] == 3 / 3600 and report.counts["train"]["speakers"] == 1
    assert report.speakers == {"theo": (4, 3 / 3600)}
    text = render(report)
    assert "clipped.wav: clipped" in text and "quiet.wav: nearly silent" in text
    assert "problems: 1\n  1. " in text and "silent.wav: silent" in text


def test_what_counts_as_clipped() -> None:
    peak = np.zeros(100, np.float32)
    peak[50:52] = 1.0  # two samples may be chance
    assert not is_clipped(peak)
    peak[52] = 1.0
    assert is_clipped(peak) and is_clipped(-peak)
    assert not is_clipped(np.tile([1.0, -1.0], 50))
    assert not is_clipped(np.ones(2))


def test_the_report_as_text() -> None:
    text = render(make_report("corpus 'demo'", ITEMS, FACTS, keep, frames_needed, notes=["left out 'c'"]))
    assert text.splitlines()[2].split() == [
        "split", "utterances", "tokens", "types", "signers", "frames", "clean", "tokens", "clean", "types",
        "oov", "tokens", "oov", "types",
    ]  # fmt: skip
    assert "notes: 1\n  - left out 'c'" in text and "problems: 1\n  1. b.npz: 11 frames" in text


def test_known_counts_have_a_source() -> None:
    for known in KNOWN.values():
        assert known.source and list(known.splits) == ["train", "dev", "test"]
        assert all(counts.given() for counts in known.splits.values())
