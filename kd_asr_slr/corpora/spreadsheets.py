"""One sheet of an Excel file as rows of texts: .xls with xlrd, .xlsx where openpyxl is installed."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from kd_asr_slr.errors import UserError


def read_sheet(path: Path, name: str) -> list[list[str]]:
    """The cells of a sheet, as texts without blanks around them.

    Args:
        path: an .xls or .xlsx file.
        name: of the sheet.

    Raises:
        UserError: if the file is none, has no such sheet, or is an .xlsx and openpyxl is not installed.

    Example:
        >>> read_sheet(Path("doc/speaker_wordlist.xls"), "Word_filename")[0]  # doctest: +SKIP
        ['WORD', 'FILE NAME']
    """
    sheets, rows_of = _open_new(path) if zipfile.is_zipfile(path) else _open_old(path)
    if name not in sheets:
        raise UserError(f"{path} has the sheets {', '.join(sheets)}", expected=f"a sheet {name}")
    return [["" if cell is None else str(cell).strip() for cell in row] for row in rows_of(name)]


def _open_old(path: Path) -> tuple[list[str], Any]:
    import xlrd

    try:
        book = xlrd.open_workbook(str(path))
    except Exception as error:  # xlrd raises what its parsing stumbles over: struct.error, IndexError, AssertionError
        raise _no_excel(path, error) from error
    return book.sheet_names(), lambda name: (book.sheet_by_name(name).row_values(row) for row in _rows(book, name))


def _rows(book: Any, name: str) -> range:
    return range(book.sheet_by_name(name).nrows)


def _open_new(path: Path) -> tuple[list[str], Any]:
    try:
        import openpyxl
    except ImportError as error:
        raise UserError(
            f"{path} is an .xlsx file, which openpyxl would read, and openpyxl is not installed",
            expected="the .xls of the release, or a table with the columns block, word_id, word",
            fix="save it as .xls or as tab-separated text, or run: pip install openpyxl",
        ) from error
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # likewise
        raise _no_excel(path, error) from error
    return book.sheetnames, lambda name: book[name].iter_rows(values_only=True)


def _no_excel(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return UserError(f"{path} cannot be read as an Excel file ({reason})", expected="speaker_wordlist.xls")
