"""The stm and ctm files of sclite: what is read, what is written, what is refused and where it stands."""

from __future__ import annotations

import logging

import pytest

from kd_asr_slr.errors import UserError
from kd_asr_slr.scoring.nist import Reference, read_ctm, read_stm, texts_of_ctm, write_ctm, write_stm


def test_read_stm(tmp_path):
    path = tmp_path / "dev.stm"
    path.write_text(
        ";; a comment\n"
        "u2 1 signer05 0.0 1.79769e+308 __ON__ MORGEN  REGEN\n\n"
        "u1 1 Signer05 0.0 1.79769e+308 <o,f0,male> WOLKE\r\n"
        "u3 1 signer01 0.0 1.79769e+308"
    )
    assert read_stm(path) == [
        Reference("u2", "signer05", "__ON__ MORGEN REGEN"),
        Reference("u1", "Signer05", "WOLKE"),
        Reference("u3", "signer01", ""),
    ]


def test_real_references(shared_data):
    """dev and train are written `signer05` and `Signer05`; the counts are those of the corpus."""
    for split, utterances, glosses in (("dev", 540, 5540), ("test", 629, 6504), ("train", 5671, 58359)):
        rows = read_stm(shared_data / "phoenix2014" / f"phoenix2014-groundtruth-{split}.stm")
        assert (len(rows), sum(len(row.text.split()) for row in rows)) == (utterances, glosses)
        assert len({row.speaker.lower() for row in rows}) == 9


def test_stm_comes_back_sorted(tmp_path):
    rows = [Reference("b", "s1", "REGEN"), Reference("B", "s2", ""), Reference("a", "s1", "WOLKE SONNE")]
    write_stm(tmp_path / "new" / "x.stm", rows)
    text = (tmp_path / "new" / "x.stm").read_text()
    assert text == ("B 1 s2 0.0 1.79769e+308\na 1 s1 0.0 1.79769e+308 WOLKE SONNE\nb 1 s1 0.0 1.79769e+308 REGEN\n")
    assert read_stm(tmp_path / "new" / "x.stm") == [rows[1], rows[2], rows[0]]


def test_ctm_is_sorted_by_id_then_start_as_text(tmp_path, caplog):
    path = tmp_path / "dev.ctm"
    path.write_text("u2 1 0.01 0.01 B\nu1 1 0.01 0.02 D 0.93\nu2 1 0.00 0.01 A\nu1 1 0.00 0.02 C")
    with caplog.at_level(logging.WARNING):
        tokens = read_ctm(path)
    assert texts_of_ctm(tokens) == {"u1": "C D", "u2": "A B"}
    assert [token.number for token in tokens] == [4, 2, 3, 1]
    assert not caplog.records


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["u1 1 9.50 0.5 A", "u1 1 10.00 0.5 B"], "B A"),  # "10" sorts before "9"
        (["u1 1 0 0.01 B", "u1 1 0 0.01 A"], "A B"),  # the same start: the whole line decides
    ],
)
def test_times_that_do_not_sort_as_text_are_warned_of(tmp_path, caplog, lines, text):
    path = tmp_path / "dev.ctm"
    path.write_text("\n".join(lines))
    with caplog.at_level(logging.WARNING):
        assert texts_of_ctm(read_ctm(path)) == {"u1": text}
    assert "start times of 1 utterances do not grow when sorted as text" in caplog.text
    assert "u1" in caplog.text


def test_ctm_comes_back(tmp_path, caplog):
    """Long utterances too: their times have as many digits each."""
    texts = {"u2": "A B", "u1": " ".join(f"G{number}" for number in range(1234)), "u0": ""}
    write_ctm(tmp_path / "x.ctm", texts)
    lines = (tmp_path / "x.ctm").read_text().splitlines()
    assert lines[:2] == ["u1 1 00.00 0.01 G0", "u1 1 00.01 0.01 G1"]
    assert len(lines) == 1236
    with caplog.at_level(logging.WARNING):
        assert texts_of_ctm(read_ctm(tmp_path / "x.ctm")) == {"u1": texts["u1"], "u2": "A B"}
    assert not caplog.records


@pytest.mark.parametrize(
    ("content", "messages"),
    [
        ("u1 1 s 0.0 9.9 A\nu2 1 s zero 9.9 A\nu3\n", ["2 problems", "line 2 is 'u2 1 s zero", "line 3 is 'u3'"]),
        ("u1 1 s 0.0 9.9 A\n\nu1 1 s 0.0 9.9 B", ["line 3: utterance u1 is in line 1 already"]),
        ("u1 1 s -1 9.9 A", ["line 1 is", "expected id channel signer start end gloss"]),
        ("\n;; nothing\n", ["there are no lines"]),
        ("".join(f"u{number}\n" for number in range(9)), ["line 5 is 'u4'", "4 more lines like these"]),
    ],
)
def test_refused_stm(tmp_path, content, messages):
    path = tmp_path / "x.stm"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        read_stm(path)
    assert all(message in str(error.value) for message in ["x.stm", *messages])


@pytest.mark.parametrize(
    ("content", "messages"),
    [
        ("u1 1 0.0 0.1 A\nu1 1 0.1 0.1\n", ["line 2 is 'u1 1 0.1 0.1'; expected id channel start duration gloss"]),
        ("u1 1 0.0 0.1 A B\n", ["line 1 is 'u1 1 0.0 0.1 A B'"]),
        ("u1 1 soon 0.1 A\nu1 1 nan 0.1 A\n", ["line 1 is 'u1 1 soon", "line 2 is 'u1 1 nan"]),
        ("", ["there are no lines"]),
    ],
)
def test_refused_ctm(tmp_path, content, messages):
    path = tmp_path / "x.ctm"
    path.write_text(content)
    with pytest.raises(UserError) as error:
        read_ctm(path)
    assert all(message in str(error.value) for message in ["x.ctm", *messages])


def test_missing_and_binary_files(tmp_path):
    for read in (read_stm, read_ctm):
        with pytest.raises(UserError, match="there is no file"):
            read(tmp_path / "absent")
        (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(UserError, match="no UTF-8 text"):
            read(tmp_path / "binary")


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match=r"(?s)'a b' has blanks.*1 ids are there more than once: u1"):
        write_stm(
            tmp_path / "x.stm", [Reference("u1", "s", "A"), Reference("u1", "s", "B"), Reference("a b", "s", "A")]
        )
    with pytest.raises(UserError, match="1 ids are there more than once: u1"):
        write_ctm(tmp_path / "x.ctm", [("u1", "A"), ("u1", "B")])
    with pytest.raises(UserError, match="no utterance has a token"):
        write_ctm(tmp_path / "x.ctm", {"u1": " "})
    assert not list(tmp_path.iterdir())
