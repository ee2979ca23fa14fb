"""A folder per speaker, with texts beside the recordings or in a table."""

from __future__ import annotations

from pathlib import Path

import pytest
from dysarthric_trees import write_tone

from kd_asr_slr.corpora import speaker_folders
from kd_asr_slr.corpora.build import load_corpus
from kd_asr_slr.corpora.splits import list_speakers
from kd_asr_slr.errors import UserError

TAKES = 20


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ann's texts lie beside her recordings, Bob's in his table."""
    for take in range(TAKES):
        write_tone(tmp_path / "ann" / f"{take}.wav", 0.1)
        (tmp_path / "ann" / f"{take}.txt").write_text(f"word {take}\n", encoding="utf-8")
        write_tone(tmp_path / "bob" / f"{take}.WAV", 0.1)
    lines = ["file\ttext", *(f"{take}.WAV\tword {take}" for take in range(TAKES))]
    (tmp_path / "bob" / "transcripts.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


def test_texts_and_shares(root: Path) -> None:
    corpus = load_corpus("speaker_folders", root=root, name="clinic")
    assert {split: len(rows) for split, rows in corpus.items()} == {"train": 32, "dev": 4, "test": 4}
    for rows in corpus.values():
        assert list_speakers(rows) == ["clinic/ann", "clinic/bob"]
        assert all(row["text"] == f"word {Path(row['audio']).stem}" for row in rows)
    again = load_corpus("speaker_folders", root=root, name="clinic")
    assert [rows["id"][:] for rows in again.values()] == [rows["id"][:] for rows in corpus.values()]


def test_one_table_for_all(root: Path) -> None:
    (root / "bob" / "transcripts.tsv").unlink()
    with pytest.raises(UserError, match=r"20 recordings .* have no text: bob-0, .*transcripts.tsv"):
        load_corpus("speaker_folders", root=root)
    lines = ["file\ttext", *(f"bob/{take}\tword {take}" for take in range(TAKES))]
    (root / "transcripts.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert sum(map(len, load_corpus("speaker_folders", root=root).values())) == 2 * TAKES


def test_texts_as_editors_and_macs_leave_them(root: Path) -> None:
    (root / "ann" / "0.txt").write_bytes(b"\xef\xbb\xbfword 0\r\n")
    (root / "ann" / "1.txt").rename(root / "ann" / "1.TXT")
    (root / "ann" / "._1.wav").write_bytes(b"\0\5\x16\7")
    found = speaker_folders.survey(name="clinic", root=root, options={})
    assert {row["id"]: row["text"] for row in found.rows} == {
        f"{speaker}-{take}": f"word {take}" for speaker in ("ann", "bob") for take in range(TAKES)
    }
    assert not found.problems and not found.differences


def test_recordings_of_other_kinds_are_said(root: Path) -> None:
    (root / "ann" / "a.mp3").write_bytes(b"ID3")
    (root / "cleo").mkdir()
    (root / "cleo" / "b.M4A").write_bytes(b"x")
    found = speaker_folders.survey(name=None, root=root, options={})
    assert len(found.rows) == 2 * TAKES
    assert found.differences == [
        "recordings of kinds that are not read: 1 .mp3, 1 .m4a; convert them to .wav or .flac or .ogg"
    ]


def test_mistakes(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(UserError, match="did you mean 'dev_share'"):
        load_corpus("speaker_folders", root=root, options={"devshare": 0.1})
    with pytest.raises(UserError, match="holds no recordings"):
        load_corpus("speaker_folders", root=tmp_path_factory.mktemp("none"))
    with pytest.raises(UserError, match="there is no folder"):
        load_corpus("speaker_folders", root=root / "nowhere")
