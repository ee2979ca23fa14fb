"""UASpeech: both layouts, every source of the words, what is left out, and the default split."""

from __future__ import annotations

from pathlib import Path

import pytest
from dysarthric_trees import real_words, release_rows, write_labels, write_tone, write_word_list, write_xls

from kd_asr_slr.corpora import uaspeech
from kd_asr_slr.corpora.build import load_corpus
from kd_asr_slr.corpora.recordings import Found
from kd_asr_slr.corpora.spreadsheets import read_sheet
from kd_asr_slr.corpora.uaspeech_facts import CONTROLS, INTELLIGIBILITY, known_recordings
from kd_asr_slr.corpora.uaspeech_words import find_words, read_word_list, word_of
from kd_asr_slr.errors import UserError

IDS = ("D0", "LX", "C1", "CW1", "CW46", "UW1", "UW17")


def fill(folder: Path, speaker: str, microphones: tuple[str, ...] = ("M5", "M6"), ids: tuple[str, ...] = IDS) -> None:
    for name in (f"{speaker}_{b}_{i}_{m}" for b in ("B1", "B2", "B3") for i in ids for m in microphones):
        write_tone(folder / speaker / f"{name}.wav")


@pytest.fixture
def release(tmp_path: Path, shared_data: Path) -> Path:
    """The newer layout with one processing, two dysarthric speakers and a control."""
    write_word_list(tmp_path / "doc" / "speaker_wordlist.xls", shared_data)
    for speaker in ("M04", "F05", "CF02"):
        fill(tmp_path / "audio" / "original", speaker)
    return tmp_path


def survey(root: Path, **options: object) -> Found:
    return uaspeech.survey(name=None, root=root, options=options)


def test_every_source_gives_the_same_455_words(tmp_path: Path, shared_data: Path) -> None:
    write_word_list(tmp_path / "list.xls", shared_data)
    expected = {(block, word_id): word for block, word_id, word in real_words(shared_data)}
    assert len(expected) == 455 and len(set(expected.values())) == 449
    assert read_word_list(tmp_path / "list.xls") == expected  # the word DO looks like the id of a digit
    assert read_word_list(shared_data / "uaspeech" / "word_table.tsv") == expected
    blocks = [
        (b, i, w) for block, i, w in real_words(shared_data) for b in (("B1", "B2") if block == "*" else (block,))
    ]
    write_labels(tmp_path / "mlf", "M04", [(f"M04_{b}_{i}_M5", w) for b, i, w in blocks])
    (tmp_path / "mlf" / "M04" / "M04_phone.mlf").write_text('#!MLF!#\n"*/M04_B1_C1_M5.lab"\nk\nah\n.\n', "utf-8")
    assert find_words(tmp_path, None)[0] == expected


def test_the_newer_layout(release: Path) -> None:
    corpus = load_corpus("uaspeech", root=release)
    rows = {row["id"]: row for split in corpus.values() for row in split}
    assert len(rows) == 2 * 3 * len(IDS) * 2
    row = rows["M04_B2_UW17_M5"]
    assert row["speaker"] == "uaspeech/M04" and row["utterance"] == "M04_B2_UW17" and row["split"] == "test"
    assert (row["band"], row["intelligibility"], row["category"]) == ("very low", 2.0, "uncommon")
    assert (row["block"], row["word_id"], row["microphone"], row["group"]) == ("B2", "UW17", "M5", "dysarthric")
    assert {rows[f"F05_B{block}_UW17_M5"]["text"] for block in (1, 2, 3)} == {  # another word in each block
        word_of(find_words(release, None)[0], f"B{block}", "UW17") for block in (1, 2, 3)
    }
    assert len({rows[f"F05_B{block}_UW17_M5"]["text"] for block in (1, 2, 3)}) == 3
    assert rows["F05_B1_CW46_M5"]["word"] == "DO" and rows["F05_B1_CW46_M5"]["category"] == "common"
    assert rows["F05_B1_LX_M6"]["text"] == "X-RAY" and rows["F05_B1_C1_M6"]["text"] == "COMMAND"


def test_the_older_layout_with_controls(tmp_path: Path, shared_data: Path) -> None:
    write_word_list(tmp_path / "speaker_wordlist.xls", shared_data)
    fill(tmp_path / "audio", "M16")
    fill(tmp_path / "audio" / "control", "CM13")
    assert {row["speaker"] for row in survey(tmp_path).rows} == {"uaspeech/M16"}
    controls = [row for row in survey(tmp_path, controls=True).rows if row["speaker"] == "uaspeech/CM13"]
    assert len(controls) == 3 * len(IDS) * 2 and {row["band"] for row in controls} == {"control"}
    only = load_corpus("uaspeech", root=tmp_path, options={"speakers": ["CM13"], "controls": True})
    assert set(only["train"]["speaker"]) == {"uaspeech/CM13"}


def test_names_in_small_letters_are_the_same_recordings(release: Path) -> None:
    expected = survey(release, controls=True).rows
    for path in sorted((release / "audio").rglob("*"), reverse=True):
        path.rename(path.with_name(path.name.lower()))
        (path.parent / f"._{path.name.lower()}").touch()  # as Macs leave them beside files
    found = survey(release, controls=True)
    places = [{**row, "audio": None} for row in found.rows]
    assert places == [{**row, "audio": None} for row in expected] and not found.problems
    for one in (["M04"], "M04"):
        assert {row["speaker"] for row in survey(release, speakers=one).rows} == {"uaspeech/M04"}


def test_blocks_and_microphones(release: Path) -> None:
    rows = survey(release, dev_share=0.2).rows
    assert {(row["split"], row["block"]) for row in rows} == {
        ("train", "B1"), ("train", "B3"), ("dev", "B1"), ("dev", "B3"), ("test", "B2")
    }  # fmt: skip
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row["utterance"], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values()), "the microphones of an utterance are in two splits"
    tuned = {row["utterance"] for row in rows if row["split"] == "dev"}
    assert len([name for name in tuned if name.startswith("M04")]) == 3  # a fifth of 14
    assert {
        row["utterance"] for row in survey(release, dev_share=0.2, microphones="M6").rows if row["split"] == "dev"
    } == tuned
    write_tone(release / "audio" / "original" / "M04" / "M04_B1_C1_M8.wav")
    assert {row["microphone"] for row in survey(release).rows} == {"M5", "M6", "M8"}
    assert {row["microphone"] for row in survey(release, microphones="common").rows} == {"M5", "M6"}


def test_several_processings_have_to_be_chosen_from(release: Path) -> None:
    fill(release / "audio" / "normalized", "M04")
    with pytest.raises(UserError, match=r"original, normalized: copies of the same recordings.*processing"):
        survey(release)
    (path,) = {Path(row["audio"]).parts[-3] for row in survey(release, processing="normalized").rows}
    assert path == "normalized"
    with pytest.raises(UserError, match="has no 'noisereduce'"):
        survey(release, processing="noisereduce")


def test_empty_and_damaged_recordings_are_left_out_and_named(release: Path) -> None:
    original = release / "audio" / "original"
    fill(original, "F03")
    (original / "F03" / "F03_B1_C1_M5.wav").write_bytes(b"")
    whole = (original / "F03" / "F03_B1_D0_M5.wav").read_bytes()
    header = whole[:4] + (36).to_bytes(4, "little") + whole[8:40] + bytes(4)
    (original / "F03" / "F03_B2_C1_M6.wav").write_bytes(header)  # a header and no samples
    (original / "F05" / "F05_B1_D0_M5.wav").write_bytes(b"")  # not among the known ones
    damaged = original / "M04" / "M04_B3_C1_M5.wav"
    damaged.write_bytes(whole[:40] + (10**6).to_bytes(4, "little") + whole[44:])
    found = survey(release)
    ids = {row["id"] for row in found.rows}
    assert len(ids) == 3 * 3 * len(IDS) * 2 - 4
    assert {Path(path).stem for path in found.problems} == {"F05_B1_D0_M5", "M04_B3_C1_M5"}
    (note,) = [note for note in found.notes if "F03" in note and "empty" in note]
    assert "F03_B1_C1_M5, F03_B2_C1_M6" in note and "3" in note
    assert set(load_corpus("uaspeech", root=release)) == {"train", "dev", "test"}


def test_counts_of_the_release(shared_data: Path, release: Path) -> None:
    """The known counts are those of the label files: 143,565 in all; a copy that is nearly whole is compared."""
    assert sum(sum(known_recordings(name).values()) for name in (*INTELLIGIBILITY, *CONTROLS)) == 143_565
    assert sum(known_recordings(name)["M5"] for name in INTELLIGIBILITY) == 11_475
    assert survey(release).differences == []  # too few to be a whole copy
    assert any("not compared" in note for note in survey(release).notes)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"microphones": ["M9"]}, "'microphones' has 'M9'"),
        ({"microphones": ["M2"]}, "no recording of the wanted microphones"),
        ({"speakers": ["F99"]}, "no speaker F99"),
        ({"processing": "clean"}, "'processing' is 'clean'"),
        ({"procesing": "original"}, "did you mean 'processing'"),
        ({"word_list": "nowhere.xls"}, "there is no word list nowhere.xls"),
    ],
)
def test_mistakes(release: Path, options: dict, part: str) -> None:
    with pytest.raises(UserError) as caught:
        survey(release, **options)
    assert part in str(caught.value)


def test_word_lists_that_cannot_be_used(tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "audio", "M16", ids=("C1",))
    with pytest.raises(UserError, match="has no word list.*speaker_wordlist.xls"):
        survey(tmp_path)
    words = tmp_path / "speaker_wordlist.xls"
    words.write_bytes(b"\x00" * 600)
    with pytest.raises(UserError, match="cannot be read as an Excel file"):
        survey(tmp_path)
    write_xls(words, {"Speaker": [("A",)]})
    with pytest.raises(UserError, match="has the sheets Speaker; expected a sheet Word_filename"):
        survey(tmp_path)
    write_xls(words, {"Word_filename": [("WORD", "FILE NAME"), *release_rows([("*", "C2", "BACKSPACE")])]})
    with pytest.raises(UserError, match="B1 C1.*word for every id"):
        survey(tmp_path)
    words.write_bytes(b"PK\x05\x06" + b"\x00" * 18)  # an empty zip, as .xlsx files are zips
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    with pytest.raises(UserError, match="openpyxl is not installed"):
        read_sheet(words, "Word_filename")
