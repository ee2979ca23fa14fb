"""TORGO's prompts: which can be scored as words; how these are written is `text.torgo_prompt`.

Source: Kaldi's TORGO recipe (Espana-Bonet and Hermann, local/torgo_data_prep.sh): prompts with comments in brackets,
with "xxx", or that name a picture are no transcripts.
"""

from __future__ import annotations

import re
from pathlib import Path

from kd_asr_slr.text import torgo_prompt

_COMMENT = re.compile(r"\[.*?\]")
_PICTURE = re.compile(r"(^|[\\/])(input|images)?[\\/]?\S*\.(jpe?g|png|gif|bmp)\b", re.IGNORECASE)


def read_prompt(path: Path) -> str:
    """The content of a prompt file: UTF-8, or as Windows wrote it, whose apostrophe (0x92) is no valid UTF-8."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace").strip()


def why_no_transcript(prompt: str) -> str | None:
    """Why a prompt cannot be scored as words; None where it can.

    Args:
        prompt: the content of a prompt file.

    Example:
        >>> why_no_transcript("[relax your mouth in its normal position]"), why_no_transcript("stick")
        ('a comment in brackets', None)
    """
    if _COMMENT.search(prompt) or "[" in prompt or "]" in prompt:
        return "a comment in brackets"
    if re.search(r"\bxxx\b", prompt, re.IGNORECASE):
        return "xxx (unintelligible)"
    if "input/images" in prompt.replace("\\", "/").lower() or _PICTURE.search(prompt):
        return "a picture to describe"
    return None if torgo_prompt(prompt) else "no word"
