"""Joining by id, and the file of predictions."""

from __future__ import annotations

import json

import pytest

from kd_asr_slr.errors import UserError
from kd_asr_slr.scoring.predictions import join, read_predictions, write_predictions

ROWS = [{"id": f"u{number}", "speaker": "s/1", "text": f"WORD{number}", "severity": "mild"} for number in range(3)]
HYPOTHESES = [("u2", "C"), ("u0", "A"), ("u1", "")]


def prediction(identity: str = "u0", **changes) -> dict:
    return {"id": identity, "speaker": "s/1", "reference": "ONE", "hypothesis": "ONE", **changes}


def test_join_follows_the_references():
    joined = join(ROWS, HYPOTHESES, keep=["severity"])
    assert joined == join(ROWS, dict(HYPOTHESES), keep=["severity"])
    assert [row["id"] for row in joined] == ["u0", "u1", "u2"]
    assert joined[2] == {"id": "u2", "speaker": "s/1", "reference": "WORD2", "hypothesis": "C", "severity": "mild"}
    assert set(join(ROWS, HYPOTHESES)[0]) == {"id", "speaker", "reference", "hypothesis"}


def test_a_missing_utterance_is_an_error():
    with pytest.raises(UserError, match="1 of 3 references have no hypothesis: u1"):
        join(ROWS, [pair for pair in HYPOTHESES if pair[0] != "u1"])


def test_every_mismatch_is_reported_at_once():
    with pytest.raises(UserError) as caught:
        join([*ROWS, ROWS[0]], [("u2", "C"), ("u2", "D"), ("x", "E"), ("u0", "A")])
    message = str(caught.value)
    assert "1 of 3 references have no hypothesis: u1" in message
    assert "1 of 3 hypotheses have no reference: x" in message
    assert "1 of 3 references are there more than once: u0" in message
    assert "1 of 3 hypotheses are there more than once: u2" in message


def test_long_lists_are_cut():
    rows = [{"id": f"u{number}", "speaker": "s", "text": "A"} for number in range(9)]
    with pytest.raises(UserError, match="9 of 9 references have no hypothesis: u0, u1, u2, u3, u4 and 4 more"):
        join(rows, {})


def test_written_and_read_again(tmp_path):
    path = tmp_path / "run" / "predictions-test.jsonl"
    rows = [
        prediction("u0", hypothesis='日本 é \u2028 "x"\n', score=-1.5),
        prediction("u1", reference="ÜBER\u0085", severity=None),
    ]
    write_predictions(path, rows)
    assert path.name == "predictions-test.jsonl"
    assert read_predictions(path) == rows
    assert len(path.read_bytes().splitlines()) == 2
    assert [child.name for child in path.parent.iterdir()] == [path.name]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "predictions-dev.jsonl"
    write_predictions(path, [prediction()])
    before = path.read_bytes()
    with pytest.raises(UserError, match="row 1: 'hypothesis' is None"):
        write_predictions(path, [prediction(hypothesis=None)])

    def full(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr("kd_asr_slr.files.os.replace", full)
    with pytest.raises(UserError, match="no space left"):
        write_predictions(path, [prediction(hypothesis="TWO")])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "there are no rows"),
        ("{}\n", "row 1: 'id' is None; expected a string"),
        (json.dumps(prediction()) + "\n{oops\n", "line 2 of .* is no JSON"),
        ("[1]\n", "line 1 of .* is list"),
        (json.dumps(prediction()) * 1 + "\n" + json.dumps(prediction()), "1 ids are there more than once: u0"),
        ("\n".join(json.dumps(prediction(str(n), speaker=3)) for n in range(9)), "4 more values like these"),
    ],
)
def test_damaged_files(tmp_path, content, message):
    path = tmp_path / "predictions-test.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_predictions(path)


def test_files_that_are_no_text(tmp_path):
    path = tmp_path / "predictions-test.jsonl"
    with pytest.raises(UserError, match="there are no predictions at"):
        read_predictions(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is no UTF-8 text"):
        read_predictions(path)
