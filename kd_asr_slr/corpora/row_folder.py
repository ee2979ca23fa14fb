"""The folder of a process for its row files, and what killed processes left of theirs."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX = "kd_asr_slr_rows_"
LOCK = "in_use.lock"
YOUNG = 60  # seconds in which a folder that was just made may still be without its lock
_folders: dict[int, tuple[tempfile.TemporaryDirectory[str], FileLock]] = {}  # by process: a forked one has its own


def rows_folder() -> str:
    """Where this process keeps its rows; made at the first call, where TMPDIR says, and gone with the process.

    A killed process cannot clear up, but its lock goes with it: folders whose lock nobody holds are removed here.

    Raises:
        OSError: if there is no room for it.
    """
    if os.getpid() not in _folders:
        remove_abandoned(Path(tempfile.gettempdir()))
        folder = tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
        lock = FileLock(Path(folder.name) / LOCK)
        lock.acquire(timeout=0)
        _folders[os.getpid()] = folder, lock
    return _folders[os.getpid()][0].name


def discard_rows() -> None:
    """Remove the row files of this process, which ends without Python's own clearing up."""
    if kept := _folders.pop(os.getpid(), None):
        folder, lock = kept
        lock.release()
        folder.cleanup()


def remove_abandoned(parent: Path) -> None:
    """Remove folders of rows whose process is gone; those of others, and what cannot be removed, are left alone."""
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            if not (folder / LOCK).exists() or time.time() - folder.stat().st_mtime < YOUNG:
                continue
            with FileLock(folder / LOCK, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
        except (Timeout, OSError):
            continue
