"""The sentence a user sees, and how a recipe ends on it."""

from __future__ import annotations

import pytest
from torch._utils import ExceptionWrapper

from kd_asr_slr.errors import UserError, raise_all, run_recipe


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        (("row 7 is empty",), "row 7 is empty."),
        (("row 7 is empty.", "a text."), "row 7 is empty; expected a text."),
        (("row 7 is empty", "a text", "fill it."), "row 7 is empty; expected a text. To fix it: fill it."),
        (("row 7 is empty", "", "fill it"), "row 7 is empty. To fix it: fill it."),
    ],
)
def test_found_expected_and_fix_make_a_sentence(parts: tuple[str, ...], sentence: str) -> None:
    assert str(UserError(*parts)) == sentence


def test_raise_all() -> None:
    raise_all([], "nothing")
    with pytest.raises(UserError, match="^the file: one thing\\.$"):
        raise_all(["one thing"], "the file")
    with pytest.raises(UserError) as caught:
        raise_all(["one thing", "another"], "the file")
    assert str(caught.value) == "the file: 2 problems\n  1. one thing\n  2. another."


def test_a_recipe_ends_with_one_message_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise UserError("the file is empty", fix="fill it")

    with pytest.raises(SystemExit) as ended:
        run_recipe(main)
    assert ended.value.code == 2
    assert capsys.readouterr() == ("", "error: the file is empty. To fix it: fill it.\n")


def test_an_error_from_a_loader_worker_is_the_same_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        try:
            raise UserError("u1 is silent", fix="record it again")
        except UserError:
            ExceptionWrapper(where="in DataLoader worker process 0").reraise()  # as torch hands it over

    with pytest.raises(SystemExit):
        run_recipe(main)
    assert capsys.readouterr().err == "error: u1 is silent. To fix it: record it again.\n"


def test_a_recipe_that_works_or_has_a_bug_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_recipe(lambda: None) is None
    with pytest.raises(ZeroDivisionError):
        run_recipe(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    assert capsys.readouterr().err == ""
