"""UASpeech's words: from the word list (Excel sheet or table) or from the HTK label files, by block and word id.

Ids of digits (D0), letters (LA), commands (C1) and common words (CW1) mean one word in every block; uncommon words
(UW1) are other words in each block, so that their key carries the block (B2_UW17).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from kd_asr_slr.corpora.spreadsheets import read_sheet
from kd_asr_slr.errors import UserError

# CW before C, or CW1 would be the command "W1"; a letter only after L, or the word DO would be a digit's id.
WORD_ID = re.compile(r"(?P<kind>CW|UW|C|D|L(?=[A-Z]))(?:(?<=L)[A-Z]|(?<!L)[0-9]+)")
CATEGORIES = {"D": "digit", "L": "letter", "C": "command", "CW": "common", "UW": "uncommon"}
SHEET = "Word_filename"
WORD_COLUMN, ID_COLUMN = "WORD", "FILE NAME"
LIST_NAMES = (
    *("speaker_wordlist.xls", "speaker_wordlist.xlsx", "speaker_wordlist.tsv", "speaker_wordlist.csv"),
    "word_table.tsv",
)
ANY_BLOCK = "*"

Words = Mapping[tuple[str, str], str]


def category_of(word_id: str) -> str | None:
    """digit, letter, command, common or uncommon; None for what is no word id.

    Example:
        >>> category_of("CW12"), category_of("C12"), category_of("X1")
        ('common', 'command', None)
    """
    match = WORD_ID.fullmatch(word_id)
    return CATEGORIES[match["kind"]] if match else None


def find_words(root: Path, given: str | None) -> tuple[Words, Path]:
    """The words of a copy of UASpeech, and the file or folder they come from.

    Args:
        root: the folder of the corpus.
        given: a word list or a folder of label files; None looks for them under `root`.

    Returns:
        (block, word id) -> word, with block "*" for the ids that mean one word in every block.

    Raises:
        UserError: if nothing is found, or what is found cannot be read.
    """
    if given is not None:
        path = Path(given)
        if not path.exists():
            raise UserError(f"there is no word list {path}", fix="correct word_list in corpus_options")
        return (read_label_files(path) if path.is_dir() else read_word_list(path)), path
    for folder in (root, root / "doc"):
        for name in LIST_NAMES:
            if (folder / name).is_file():
                return read_word_list(folder / name), folder / name
    if (root / "mlf").is_dir():
        return read_label_files(root / "mlf"), root / "mlf"
    raise UserError(
        f"{root} has no word list",
        expected="doc/speaker_wordlist.xls, or mlf/<speaker>/<speaker>_word.mlf",
        fix='name it: --corpus_options \'{"word_list": "FILE"}\'',
    )


def read_word_list(path: Path) -> Words:
    """The words of `speaker_wordlist.xls` (or .xlsx), or of a table with the columns block, word_id, word (.tsv, .csv).

    Raises:
        UserError: if the file is of another kind or holds no words.
    """
    if path.suffix.lower() in (".xls", ".xlsx"):
        return _collected(_from_sheet(read_sheet(path, SHEET), path), path)
    return _collected(_from_table(path), path)


def read_label_files(folder: Path) -> Words:
    """The words of HTK label files (`*_word.mlf`): the name of a recording, then its word, then a full stop.

    Raises:
        UserError: if there are none, or two of them disagree about a word.
    """
    files = sorted(folder.rglob("*_word.mlf")) or sorted(folder.rglob("*.mlf"))
    if not files:
        raise UserError(f"{folder} holds no label file", expected="<speaker>/<speaker>_word.mlf")
    return _collected((pair for file in files for pair in _from_labels(file)), folder)


def _from_labels(path: Path) -> Iterator[tuple[str, str, str]]:
    block = word_id = None
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        text = line.strip()
        if text.startswith('"'):
            parts = text.strip('"').rsplit("/", 1)[-1].split(".")[0].split("_")
            block, word_id = (parts[1], parts[2]) if len(parts) >= 3 else (None, None)
        elif text and text != "." and not text.startswith("#!") and word_id is not None and block is not None:
            yield block, word_id, text.split()[-1] if text[0].isdigit() else text.split()[0]
            word_id = None


def _from_sheet(rows: Sequence[Sequence[str]], path: Path) -> Iterator[tuple[str, str, str]]:
    """Block, word id and word of each row under the header WORD, FILE NAME."""
    header = [cell.upper() for cell in rows[0]] if rows else []
    missing = [name for name in (WORD_COLUMN, ID_COLUMN) if name not in header]
    if missing:
        raise UserError(
            f"the sheet {SHEET} of {path} has the columns {', '.join(header) or 'none'}",
            expected=f"{WORD_COLUMN} and {ID_COLUMN}",
            fix="take speaker_wordlist.xls as it was distributed",
        )
    for row in rows[1:]:
        key, word = _split_key(row[header.index(ID_COLUMN)].upper()), row[header.index(WORD_COLUMN)]
        if key and word:
            yield *key, word


def _from_table(path: Path) -> Iterator[tuple[str, str, str]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the word list {path} cannot be read ({error})", expected="UTF-8 text") from error
    reader = csv.DictReader(lines, delimiter="," if path.suffix.lower() == ".csv" else "\t")
    missing = [name for name in ("word_id", "word") if name not in (reader.fieldnames or [])]
    if missing:
        raise UserError(
            f"the word list {path} has the columns {', '.join(reader.fieldnames or ['none'])}",
            expected="block, word_id, word",
        )
    for row in reader:
        key = _split_key(str(row["word_id"]).strip().upper())
        if key and row["word"]:
            yield (key[0] if key[0] != ANY_BLOCK else (row.get("block") or ANY_BLOCK)), key[1], row["word"].strip()


def _split_key(key: str) -> tuple[str, str] | None:
    """("B2", "UW17") of "B2_UW17", ("*", "C1") of "C1"; None for what is no key."""
    block, underscore, word_id = key.rpartition("_")
    if not WORD_ID.fullmatch(word_id) or (underscore and not re.fullmatch("B[1-3]", block)):
        return None
    return block or ANY_BLOCK, word_id


def _collected(entries: Iterable[tuple[str, str, str]], source: Path) -> Words:
    words: dict[tuple[str, str], str] = {}
    for block, word_id, word in entries:
        key = (block if word_id.startswith("UW") else ANY_BLOCK, word_id)
        known = words.setdefault(key, word.upper())
        if known != word.upper():
            place = word_id if key[0] == ANY_BLOCK else f"{block}_{word_id}"
            raise UserError(f"{source} has two words for {place}: {known} and {word.upper()}", expected="one")
    if not words:
        raise UserError(f"{source} holds no words", expected="word ids such as CW12 or B2_UW17, each with its word")
    return words


def word_of(words: Words, block: str, word_id: str) -> str | None:
    """The word of a recording; None where the list does not know it.

    Example:
        >>> word_of({("*", "C1"): "COMMAND", ("B2", "UW1"): "MOUNTAIN"}, "B2", "UW1")
        'MOUNTAIN'
    """
    return words.get((block, word_id)) or words.get((ANY_BLOCK, word_id))
