"""Names on the hub: OWNER/NAME, or OWNER/NAME@REVISION for one commit, tag or branch of it."""

from __future__ import annotations

import re
from pathlib import Path

from kd_asr_slr.errors import UserError

HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def split_revision(place: str, revision: str | None = None) -> tuple[str, str | None]:
    """A hub name and its revision; a folder is returned as it is.

    Args:
        place: a folder, a hub name, or a hub name with "@" and a revision.
        revision: given beside the name.

    Raises:
        UserError: if the two say different revisions, or nothing stands before or behind the "@".

    Example:
        >>> split_revision("owner/teacher@v1.0")
        ('owner/teacher', 'v1.0')
    """
    name, at, pinned = place.partition("@")
    if not at or Path(place).exists():
        return place, revision
    if not name or not pinned:
        raise UserError(f"'{place}' is no name with a revision", expected="OWNER/NAME@REVISION")
    if revision not in (None, pinned):
        raise UserError(f"{place} is asked for at revision {revision}", expected="one revision", fix="leave out one")
    return name, pinned


def may_be_hub_name(place: str) -> bool:
    """Whether a place is no folder, and is written like OWNER/NAME or OWNER/NAME@REVISION."""
    name = place.partition("@")[0]
    return not Path(place).exists() and name.count("/") == 1 and HUB_NAME.fullmatch(name) is not None
