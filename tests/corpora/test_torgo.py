"""TORGO: the release's folders and the hub's table give the same rows, cleaned as Kaldi's recipe cleans them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from datasets import Dataset
from dysarthric_trees import write_tone

from kd_asr_slr.corpora import torgo
from kd_asr_slr.corpora.build import load_corpus
from kd_asr_slr.corpora.recordings import Found
from kd_asr_slr.corpora.splits import apply_split, list_speakers
from kd_asr_slr.errors import UserError
from kd_asr_slr.text import normalise

PROMPTS = {
    "0001": "stick",
    "0002": "Except in the winter when the ooze or snow or ice prevents,",
    "0003": "xray",
    "0004": "[relax your mouth in its normal position]",
    "0005": "tear [as in tear up that paper]",
    "0006": "xxx",
    "0007": "input/images/rescued.jpg",
    "0008": "...",
    "0009": "Don't ask me to carry an oily rag like that.",
}
KEPT = {
    "0001": "STICK",
    "0002": "EXCEPT IN THE WINTER WHEN THE OOZE OR SNOW OR ICE PREVENTS",
    "0003": "X-RAY",
    "0009": "DON'T ASK ME TO CARRY AN OILY RAG LIKE THAT",
}


def session(folder: Path, number: str = "1", microphones: tuple[str, ...] = ("wav_arrayMic", "wav_headMic")) -> None:
    place = folder / f"Session{number}"
    (place / "prompts").mkdir(parents=True)
    for name, prompt in PROMPTS.items():
        (place / "prompts" / f"{name}.txt").write_text(prompt + "\r\n", encoding="utf-8")
        for microphone in microphones:
            write_tone(place / microphone / f"{name}.wav", rate=16000)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    session(tmp_path / "F01")
    session(tmp_path / "M05", "2_3")
    session(tmp_path / "MC03", microphones=("wav_headMic",))
    return tmp_path


def survey(root: Path, **options: object) -> Found:
    return torgo.survey(name=None, root=root, options=options)


def texts(rows: list[dict], speaker: str, microphone: str) -> list[str]:
    found = [row for row in rows if row["speaker"] == f"torgo/{speaker}" and row["microphone"] == microphone]
    return sorted(row["text"] for row in found)


def test_the_release(release: Path) -> None:
    found = survey(release)
    assert texts(found.rows, "F01", "head") == texts(found.rows, "F01", "array") == sorted(KEPT.values())
    assert len(found.rows) == 5 * len(KEPT) and not found.problems
    row = next(row for row in found.rows if row["utterance"] == "M05_Session2_3_0003" and row["microphone"] == "head")
    assert (row["text"], row["category"], row["group"], row["session"]) == (
        "X-RAY",
        "single",
        "dysarthric",
        "Session2_3",
    )
    assert {row["group"] for row in found.rows if "MC03" in row["speaker"]} == {"control"}
    assert sum(row["category"] == "multi" for row in found.rows) == 5 * 2
    counts = {note.split(": ", 1)[1]: int(note.split()[0]) for note in found.notes if "left out" in note}
    assert counts == {
        "a comment in brackets": 10, "a picture to describe": 5, "no word": 5, "xxx (unintelligible)": 5
    }  # fmt: skip
    assert any("no recordings of F03" in note for note in found.notes)


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("Xray", "X-RAY"),
        ("slip.", "SLIP"),
        ('"Yes," he said; no!', "YES HE SAID NO"),
        ("air-tight, 'tis", "AIR-TIGHT TIS"),
    ],
)
def test_how_prompts_are_written(prompt: str, text: str) -> None:
    assert normalise(prompt, "torgo") == text
    assert normalise(text, "torgo") == text


def test_nested_folders_and_capitals(tmp_path: Path) -> None:
    session(tmp_path / "F" / "F01")
    session(tmp_path / "MC" / "mc03")
    for path in [*tmp_path.rglob("*.wav"), *tmp_path.rglob("*.txt")]:
        path.rename(path.with_suffix(path.suffix.upper()))
    found = survey(tmp_path)
    assert len(found.rows) == 4 * len(KEPT)
    assert {row["speaker"] for row in found.rows} == {"torgo/F01", "torgo/MC03"}


def test_prompts_of_other_editors_and_hidden_files(tmp_path: Path) -> None:
    session(tmp_path / "F01")
    prompts = tmp_path / "F01" / "Session1" / "prompts"
    (prompts / "0001.txt").write_bytes("don\u2019t".encode("cp1252"))
    (prompts / "0003.txt").write_bytes(b"\xef\xbb\xbfsheet\r\n")
    for path in list(tmp_path.rglob("*.*")):
        (path.parent / f"._{path.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    found = survey(tmp_path)
    assert set(texts(found.rows, "F01", "head")) == {"DON'T", KEPT["0002"], "SHEET", KEPT["0009"]}
    assert not found.problems


def test_fewer_than_35_frames(release: Path) -> None:
    """35 frames of 25 ms every 10 ms take 365 ms."""
    write_tone(release / "F01" / "Session1" / "wav_headMic" / "0001.wav", seconds=0.364, rate=16000)
    write_tone(release / "F01" / "Session1" / "wav_arrayMic" / "0001.wav", seconds=0.365, rate=16000)
    found = survey(release)
    assert "STICK" in texts(found.rows, "F01", "array") and "STICK" not in texts(found.rows, "F01", "head")
    assert "1 recordings left out: fewer than 35 frames" in found.notes


def test_microphones_and_prompts(release: Path) -> None:
    (release / "F01" / "Session1" / "wav_headMic" / "0001.wav").unlink()
    rows = survey(release, microphones="prefer_head").rows
    assert len(rows) == len({row["utterance"] for row in rows}) == 3 * len(KEPT)
    assert texts(rows, "F01", "array") == ["STICK"]
    assert {row["microphone"] for row in survey(release, microphones="array").rows} == {"array"}
    assert {row["text"] for row in survey(release, prompts="single").rows} == {"STICK", "X-RAY"}
    assert {len(row["text"].split()) for row in survey(release, prompts="multi").rows} == {10, 12}
    assert not [row for row in survey(release, controls=False).rows if row["group"] == "control"]
    with pytest.raises(UserError, match="expected head, array, a list of them, or prefer_head"):
        survey(release, microphones="both")


def test_both_microphones_of_an_utterance_stay_together(release: Path) -> None:
    corpus = load_corpus("torgo", root=release, options={"dev_share": 0.3})
    assert not set(corpus["train"]["utterance"]) & set(corpus["dev"]["utterance"])
    fold = apply_split(corpus, "held_out_speaker", held_out=["F01"])
    assert list_speakers(fold["test"]) == ["torgo/F01"] and len(fold["test"]) == 2 * len(KEPT)


def test_empty_and_missing_files(release: Path) -> None:
    place = release / "F01" / "Session1"
    (place / "wav_headMic" / "0001.wav").write_bytes(b"")
    (place / "prompts" / "0002.txt").unlink()
    found = survey(release)
    assert [Path(path).name for path in found.problems] == ["0001.wav"]
    assert "2 recordings left out: no prompt" in found.notes


def hub_names(release: Path) -> list[tuple[Path, str, str]]:
    """File, its name on the hub, and the prompt, of every recording of the release."""
    found = []
    for path in sorted(release.rglob("*.wav")):
        speaker, part, microphone = path.parts[-4:-1]
        name = f"unknown_9f3e_{speaker}_{part.removeprefix('Session')}_{microphone.removeprefix('wav_')}_{path.name}"
        found.append((path, name, PROMPTS[path.stem]))
    return found


@pytest.mark.parametrize("kind", ["csv", "parquet", "saved"])
def test_the_hub_copy_has_the_same_rows(release: Path, tmp_path_factory: pytest.TempPathFactory, kind: str) -> None:
    hub = tmp_path_factory.mktemp("hub")
    rows = [
        {
            "transcription": prompt,
            "speech_status": "healthy" if "C0" in name else "dysarthria",
            "path": name,
            "file": path,
        }
        for path, name, prompt in hub_names(release)
    ]
    if kind == "csv":
        for row in rows:
            (hub / row["path"]).write_bytes(row["file"].read_bytes())
        with (hub / "metadata.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["transcription", "speech_status", "audio"])
            writer.writerows([row["transcription"], row["speech_status"], row["path"]] for row in rows)
    else:
        table = Dataset.from_list(
            [
                {k: row[k] for k in ("transcription", "speech_status")}
                | {"audio": {"path": row["path"], "bytes": row["file"].read_bytes()}}
                for row in rows
            ]
        )
        if kind == "saved":
            table.save_to_disk(hub)
        else:
            (hub / "data").mkdir()
            table.to_parquet(hub / "data" / "train-00000-of-00001.parquet")
    ignored = ("audio",)
    expected = {row["id"]: {k: v for k, v in row.items() if k not in ignored} for row in survey(release).rows}
    for _ in range(2):  # the second time from the files that the first one wrote
        found = survey(hub)
        assert {row["id"]: {k: v for k, v in row.items() if k not in ignored} for row in found.rows} == expected
        assert all(Path(row["audio"]).is_file() for row in found.rows)


def test_folders_that_are_no_torgo(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no recording of TORGO"):
        survey(tmp_path)
    (tmp_path / "metadata.csv").write_text("transcription,audio\nstick,a.wav\n")
    with pytest.raises(UserError, match=r"do not tell the speaker, e.g. a.wav"):
        survey(tmp_path)
    (tmp_path / "metadata.csv").write_text("text,audio\nstick,a.wav\n")
    with pytest.raises(UserError, match="has the columns text, audio"):
        survey(tmp_path)
