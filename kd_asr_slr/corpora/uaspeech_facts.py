"""What is known of UASpeech: its speakers, and the recordings that are empty in the release.

Source: Kim et al. 2008, "Dysarthric speech database for universal access research" (Interspeech), and the sheet
"Speaker" of the release's speaker_wordlist.xls for the intelligibility.
"""

from __future__ import annotations

# Per cent of words that five listeners understood.
INTELLIGIBILITY: dict[str, float] = {
    "M04": 2.0,
    "F03": 6.0,
    "M12": 7.4,
    "M01": 15.0,
    "M07": 28.0,
    "F02": 29.0,
    "M16": 43.0,
    "M05": 58.0,
    "F04": 62.0,
    "M11": 62.0,
    "M09": 86.0,
    "M14": 90.4,
    "M08": 93.0,
    "M10": 93.0,
    "F05": 95.0,
}
CONTROLS = (
    *("CF02", "CF03", "CF04", "CF05"),
    *("CM01", "CM04", "CM05", "CM06", "CM08", "CM09", "CM10", "CM12", "CM13"),
)
# Upper ends of the bands, in per cent.
BANDS = ((25.0, "very low"), (50.0, "low"), (75.0, "mid"), (100.0, "high"))
COMMON_MICROPHONES = ("M5", "M6", "M7")  # the only ones that all 15 speakers have
KNOWN_EMPTY = {"F03": 3, "F04": 12}  # recordings without a sample in the release
ALL_MICROPHONES = ("M2", "M3", "M4", "M5", "M6", "M7", "M8")
FEWER_MICROPHONES = {
    "M01": ("M3", "M5", "M6", "M7"),
    "M04": ("M3", "M5", "M6", "M7", "M8"),
    "M11": ALL_MICROPHONES[1:],
    "M12": ALL_MICROPHONES[1:],
    "M16": ALL_MICROPHONES[1:],
}
PROMPTS = 765  # three blocks of 255 words
FEWER_RECORDINGS = {("M01", "M3"): 510}  # none in block 3


def band_of(intelligibility: float) -> str:
    """very low, low, mid or high.

    Args:
        intelligibility: per cent.

    Example:
        >>> band_of(15.0), band_of(28.0), band_of(62.0), band_of(93.0)
        ('very low', 'low', 'mid', 'high')
    """
    return next(name for upper, name in BANDS if intelligibility <= upper)


def known_recordings(speaker: str) -> dict[str, int]:
    """Microphone -> recordings in the release; empty for a speaker that is not in it.

    Source: the release's word label files (one entry a recording, empty ones included).

    Example:
        >>> sum(known_recordings("F02").values()), sum(known_recordings("M01").values()), known_recordings("F99")
        (5355, 2805, {})
    """
    if speaker not in INTELLIGIBILITY and speaker not in CONTROLS:
        return {}
    names = FEWER_MICROPHONES.get(speaker, ALL_MICROPHONES)
    return {name: FEWER_RECORDINGS.get((speaker, name), PROMPTS) for name in names}
