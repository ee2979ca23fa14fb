"""F03 is one person in UASpeech and another one in TORGO: a manifest that mixes them has to say who is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from kd_asr_slr.corpora.manifest import load_manifest
from kd_asr_slr.corpora.splits import list_speakers
from kd_asr_slr.errors import UserError

UASPEECH = "ua/audio/F03/F03_B1_CW1_M5.wav"
TORGO = "torgo/F03/Session1/wav_headMic/0001.wav"
HUB = "hub/unknown_1a2b_F03_Session1_arrayMic_0001.wav"


def manifest(folder: Path, *rows: tuple[str, str]) -> Path:
    lines = [f"u{number},{path},THE,{speaker},train" for number, (speaker, path) in enumerate(rows)]
    (folder / "m.csv").write_text("\n".join(["id,path,text,speaker,split", *lines]) + "\n", encoding="utf-8")
    return folder / "m.csv"


@pytest.mark.parametrize("other", [TORGO, HUB, TORGO.replace("/", "\\")])
def test_one_name_with_files_of_two_corpora_is_refused(tmp_path: Path, other: str) -> None:
    with pytest.raises(UserError) as caught:
        load_manifest(manifest(tmp_path, ("F03", UASPEECH), ("M01", UASPEECH), ("F03", other)), "mixed")
    assert "the speaker 'F03' has files of uaspeech (line 2) and torgo (line 4): two people of one name" in str(
        caught.value
    )
    assert "write uaspeech/F03 and torgo/F03" in str(caught.value) and "M01" not in str(caught.value)


def test_a_bare_name_beside_a_namespaced_one_is_refused(tmp_path: Path) -> None:
    path = manifest(tmp_path, ("torgo/F03", "a.wav"), ("F03", "b.wav"))
    with pytest.raises(UserError, match=r"'F03' \(line 3\) and 'torgo/F03' \(line 2\) may be two people"):
        load_manifest(path, "uaspeech")
    assert list_speakers(load_manifest(path, "torgo")) == ["torgo/F03"]  # here the two are the same


def test_namespaces_keep_them_apart(tmp_path: Path) -> None:
    corpus = load_manifest(manifest(tmp_path, ("uaspeech/F03", UASPEECH), ("torgo/F03", TORGO)), "mixed")
    assert list_speakers(corpus) == ["torgo/F03", "uaspeech/F03"]


def test_one_corpus_in_several_folders_is_no_collision(tmp_path: Path) -> None:
    rows = [("F03", UASPEECH), ("F03", UASPEECH.replace("ua/", "copy/").replace("B1", "B2")), ("F03", "other/x.wav")]
    assert list_speakers(load_manifest(manifest(tmp_path, *rows), "uaspeech")) == ["uaspeech/F03"]
