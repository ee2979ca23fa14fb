"""The Free Spoken Digit Dataset: `recordings/{digit}_{speaker}_{take}.wav`, 8 kHz, spoken English digits.

Source: Jakobovski, free-spoken-digit-dataset (CC BY-SA 4.0). Its own convention: takes 0 to 4 are for testing. Here
takes 5 to 9 are for tuning, the others for training; with `labelled_takes` only so many of them, and the rest is the
split "spare": recordings for what needs no transcript.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict

from kd_asr_slr.corpora.schema import SPLIT_ORDER, check_rows, namespaced
from kd_asr_slr.errors import UserError

FILE_NAME = re.compile(r"(?P<digit>[0-9])_(?P<speaker>[A-Za-z]+)_(?P<take>[0-9]+)\.wav")
WORDS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
TEST_TAKES = 5
DEV_TAKES = 5
SPARE = "spare"


def load(*, name: str | None, root: str | Path | None, options: dict[str, Any], **unused: Any) -> DatasetDict:
    """Load the recordings in a folder.

    Args:
        name: namespace of the speakers; "fsdd" by default.
        root: the folder with the recordings (or the one above its `recordings`).
        options: `labelled_takes`, takes of each speaker and digit to train on; default: all of them.
        **unused: settings of other corpora.

    Raises:
        UserError: if the folder is missing or holds no recording, or an option is unknown or no number of takes.

    Example:
        >>> corpus = load(name=None, root="free-spoken-digit-dataset/recordings", options={})
        >>> corpus["train"][0]["speaker"]
        'fsdd/jackson'
    """
    first_spare = TEST_TAKES + DEV_TAKES + _labelled_takes(options)
    folder = _recordings(root)
    rows = [
        _row(file, match, name or "fsdd", first_spare) for file in sorted(folder.iterdir()) if (match := _match(file))
    ]
    if not rows:
        raise UserError(
            f"{folder} holds no recording", expected="files such as 7_jackson_32.wav", fix="correct --data_dir"
        )
    check_rows(rows, f"the recordings in {folder}")
    splits = {split: [row for row in rows if row["split"] == split] for split in (*SPLIT_ORDER, SPARE)}
    return DatasetDict({split: Dataset.from_list(part) for split, part in splits.items() if part})


def _labelled_takes(options: dict[str, Any]) -> float:
    unknown = [option for option in options if option != "labelled_takes"]
    takes = options.get("labelled_takes", math.inf)
    if unknown or isinstance(takes, bool) or not (takes == math.inf or (isinstance(takes, int) and takes > 0)):
        raise UserError(
            f"the options of the corpus 'fsdd' are {options}",
            expected="none, or labelled_takes and how many takes of each digit are for training, 1 or more",
            fix='correct --corpus_options, such as {"labelled_takes": 8}',
        )
    return takes


def _recordings(root: str | Path | None) -> Path:
    if root is None:
        raise UserError("the corpus 'fsdd' has no folder", fix="set --data_dir to the folder of its recordings")
    folder = Path(root)
    folder = folder / "recordings" if (folder / "recordings").is_dir() else folder
    if not folder.is_dir():
        raise UserError(
            f"there is no folder {folder}",
            expected="the recordings of the Free Spoken Digit Dataset",
            fix="download the data set and set --data_dir",
        )
    return folder


def _match(file: Path) -> re.Match[str] | None:
    return FILE_NAME.fullmatch(file.name)


def _row(file: Path, match: re.Match[str], name: str, first_spare: float) -> dict[str, Any]:
    return {
        "id": file.stem,
        "split": _split_of(int(match["take"]), first_spare),
        "speaker": namespaced(match["speaker"], name),
        "text": WORDS[int(match["digit"])],
        "audio": str(file),
        "take": match["take"],
    }


def _split_of(take: int, first_spare: float) -> str:
    bounds = {"test": TEST_TAKES, "dev": TEST_TAKES + DEV_TAKES, "train": first_spare}
    return next((split for split, bound in bounds.items() if take < bound), SPARE)
