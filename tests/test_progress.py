"""The live line: drawn on a terminal, absent anywhere else."""

from __future__ import annotations

import logging
import sys

import pytest
from terminal import terminal

from kd_asr_slr.errors import UserError, run_recipe
from kd_asr_slr.progress import LineHandler, Progress, is_watched, say


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other process, and nobody who asked for silence."""
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("TQDM_DISABLE", raising=False)


def test_the_line_says_how_far_how_fast_how_long_still_and_is_gone_afterwards() -> None:
    with terminal() as screen:
        with Progress(what="scoring test", total=8) as line:
            line.note("WER so far 12.5 %", "", "loss 0.5")
            line.update(2)
            line.refresh()
        say("done")
    last = screen.drawn[-2]
    assert last.startswith("scoring test  25% |") and "2/8" in last and " utt/s" in last and " left" in last
    assert last.endswith("WER so far 12.5 %  loss 0.5")
    assert screen.left == ["done"]


def test_a_loop_draws_and_hands_on_its_items() -> None:
    with terminal() as screen:
        assert list(Progress(["a", "b"], "reading files", "file")) == ["a", "b"]
    assert any("reading files" in line and "/2" in line for line in screen.drawn)


def test_nothing_is_drawn_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(what="scoring", total=2) as line:
        line.note("WER")
        line.update(2)
        assert not line.watched
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("name", "value"), [("RANK", "1"), ("TQDM_DISABLE", "1")])
def test_a_second_process_and_one_that_is_told_so_are_quiet(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with terminal() as screen:
        assert not is_watched()
        list(Progress([1], "reading"))
    assert screen.text == ""


def test_the_first_of_several_processes_is_not_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    with terminal():
        assert is_watched()


def test_what_is_said_and_logged_stands_on_lines_of_its_own() -> None:
    with terminal() as screen:
        logger = logging.Logger("test", logging.INFO)
        logger.addHandler(LineHandler(sys.stderr))
        with Progress(what="training", total=9) as line:
            line.update()
            line.refresh()
            say("epoch 1")
            logger.info("a word")
    assert screen.left == ["epoch 1", "a word"]


def test_an_error_in_the_middle_of_a_step_stands_alone() -> None:
    def recipe() -> None:
        for _ in Progress([1, 2], "reading files", "file"):
            raise UserError("file 1 is broken")

    with terminal() as screen, pytest.raises(SystemExit):
        run_recipe(recipe)
    assert screen.left == ["error: file 1 is broken."]


def test_a_narrow_terminal_cuts_the_line_and_does_not_wrap_it() -> None:
    with terminal(columns=40) as screen, Progress(what="training", total=9) as line:
        line.note("x" * 100)
        line.refresh()
    assert max(map(len, screen.drawn)) <= 40
