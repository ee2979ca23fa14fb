"""Which process makes which part of a store, where several commands write the same one at the same time.

Nothing depends on it but who does the work: files come into their place whole, and have the same bytes whoever makes
them. Locks of filelock cannot be removed without a race, and would lie about by the thousand; and where a disk has no
locks, it takes the file of a killed process for a living one. These need neither.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from kd_asr_slr.errors import UserError
from kd_asr_slr.files import LOCK, TEMPORARY, owner, refused

try:
    import fcntl
except ImportError:  # Windows: no locks
    fcntl = None  # type: ignore[assignment]

ABANDONED = 24 * 3600  # seconds after which a temporary file is nobody's, wherever its process ran
ATTEMPTS = 100  # to open a lock that others remove at the same time
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}  # of some network disks
HIDDEN = re.compile(rf"\.(shard-\d+-of-\d+|manifest|index|complete)(\..*\{TEMPORARY}|\{LOCK})")


@contextlib.contextmanager
def claimed(part: Path, wait: bool = False) -> Iterator[bool]:
    """Keep other processes from making a part of a store meanwhile, and remove what killed ones left of it.

    The lock is a hidden file that goes with the claim. The system gives it back when a process ends, killed or not;
    processes of other machines heed it where the disk passes locks on. Temporary files of this machine under a lock
    that was given back are nobody's; those of other machines are, a day later.

    Args:
        part: one of its files; a shard and its sidecar are one part.
        wait: for the process that has it.

    Yields:
        Whether the part is this process's own now.

    Raises:
        UserError: where the lock cannot be written.
    """
    lock = part.with_name(f".{part.stem}{LOCK}")
    try:
        taken = _take(lock, wait)
    except OSError as error:
        raise refused(lock, "written", error) from error
    if taken is None:
        yield False
        return
    descriptor, heeded = taken
    try:
        _remove_leftovers(part, 0 if heeded else ABANDONED)
        yield True
    finally:
        with contextlib.suppress(OSError):  # while it is held: who waits for it sees that it is gone
            lock.unlink()
        os.close(descriptor)


def remove_abandoned(folder: Path) -> None:
    """Remove what killed processes left in a store, where that is allowed: locks nobody holds, and temporary files."""
    matches = (HIDDEN.fullmatch(entry.name) for entry in folder.iterdir())
    for stem in {match[1] for match in matches if match}:
        with contextlib.suppress(UserError), claimed(folder / stem):
            pass


def _take(lock: Path, wait: bool) -> tuple[int, bool] | None:
    """The open lock file, and whether others heed it; None where another process has it."""
    for attempt in range(ATTEMPTS):
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            heeded = _locked(descriptor, wait)
            if heeded is None:
                os.close(descriptor)
                return None
            if os.path.samestat(os.fstat(descriptor), os.stat(lock)):
                return descriptor, heeded
        except FileNotFoundError:  # who had it has removed it since it was opened: another one has to be made
            pass
        except BaseException:
            os.close(descriptor)
            raise
        if attempt < ATTEMPTS - 1:
            os.close(descriptor)
    return descriptor, False  # a disk on which an open file is not the one of its name


def _locked(descriptor: int, wait: bool) -> bool | None:
    """Whether the disk gave a lock on an open file; None where another process has it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return False
    return True


def _remove_leftovers(part: Path, age: float) -> None:
    for leftover in part.parent.glob(f".{glob.escape(part.stem)}.*{TEMPORARY}"):
        needed = age if f".{owner()}." in leftover.name else ABANDONED
        with contextlib.suppress(OSError):  # it has come into its place meanwhile, or is another user's
            if not needed or time.time() - leftover.stat().st_mtime > needed:
                leftover.unlink()
