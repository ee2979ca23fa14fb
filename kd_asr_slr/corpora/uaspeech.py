"""UASpeech: isolated words by dysarthric speakers and controls, three blocks, up to seven microphones.

Files are `<SPK>_B<1-3>_<WORD ID>_M<2-8>.wav`: in the newer release under `audio/original/<SPK>` (or `noisereduce`,
`normalized`), in the older one under `audio/<SPK>` and `audio/control/<CSPK>`. Blocks 1 and 3 train, block 2 tests.

Source: Kim et al. 2008, "Dysarthric speech database for universal access research" (Interspeech).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import DatasetDict

from kd_asr_slr.corpora.recordings import Found, audio_files, is_empty, usable
from kd_asr_slr.corpora.schema import namespaced
from kd_asr_slr.corpora.speaker_shares import utterances_for_dev
from kd_asr_slr.corpora.synthetic import number_problem, parse_options
from kd_asr_slr.corpora.uaspeech_facts import (
    COMMON_MICROPHONES,
    INTELLIGIBILITY,
    KNOWN_EMPTY,
    band_of,
    known_recordings,
)
from kd_asr_slr.corpora.uaspeech_words import Words, category_of, find_words, word_of
from kd_asr_slr.errors import UserError

CORPUS = "uaspeech"
FILE_NAME = re.compile(
    r"(?P<speaker>C?[FM][0-9]{2})_(?P<block>B[1-3])_(?P<word_id>(?:CW|UW|C|D)[0-9]+|L[A-Z])_(?P<microphone>M[2-8])"
)
SPEAKER = re.compile(r"C?[FM][0-9]{2}")  # in capitals, whatever a copy made of the names
PROCESSINGS = ("original", "noisereduce", "normalized")
TEST_BLOCKS = ("B2",)
UNKNOWN_WORDS_LISTED = 5


@dataclass(frozen=True)
class UASpeechOptions:
    """Settings of the loader.

    Attributes:
        processing: which of the newer release's copies; the only one there by default.
        word_list: speaker_wordlist.xls, a table, or the folder of label files; looked for in the corpus by default.
        microphones: names such as M5, or "common" for those all speakers have; all of them by default.
        speakers: whom to load; all of them by default.
        controls: whether the healthy control speakers are loaded too.
        dev_share: share of each speaker's training utterances that tunes.
    """

    processing: str | None = None
    word_list: str | None = None
    microphones: Sequence[str] | str = field(default_factory=tuple)
    speakers: Sequence[str] | str = field(default_factory=tuple)
    controls: bool = False
    dev_share: float = 0.1

    @property
    def wanted(self) -> frozenset[str]:
        """The microphones that are loaded; empty for all."""
        names = [self.microphones] if isinstance(self.microphones, str) else [*self.microphones]
        common = COMMON_MICROPHONES if "common" in names else ()
        return frozenset([*common, *(name for name in names if name != "common")])

    def problems(self) -> list[str]:
        """One sentence for each value that cannot be used."""
        found = number_problem("dev_share", self.dev_share, 0.0, 0.9)
        if self.processing not in (None, *PROCESSINGS):
            found.append(f"'processing' is {self.processing!r}, expected one of {', '.join(PROCESSINGS)}")
        if not isinstance(self.controls, bool):
            found.append(f"'controls' is {self.controls!r}, expected true or false")
        odd = sorted(name for name in self.wanted if not re.fullmatch("M[2-8]", str(name)))
        return found + [f"'microphones' has {name!r}, expected M2 to M8, or common" for name in odd]


def load(*, name: str | None, root: str | Path | None, options: dict[str, Any], **unused: Any) -> DatasetDict:
    """Load a copy of UASpeech; recordings that are empty or damaged are left out, and said.

    Args:
        name: namespace of the speakers; "uaspeech" by default.
        root: the folder that holds `audio`.
        options: see `UASpeechOptions`.
        **unused: settings of other corpora.

    Raises:
        UserError: if the folder is no UASpeech, several processings are there and none is chosen, or a word is unknown.

    Example:
        >>> corpus = load(name=None, root="UASpeech", options={"microphones": ["M5"]})  # doctest: +SKIP
    """
    return survey(name=name, root=root, options=options).as_corpus(f"the UASpeech recordings in {root}")


def survey(*, name: str | None, root: str | Path | None, options: dict[str, Any], **unused: Any) -> Found:
    """What is there: usable rows, and what is left out with its reason; see `load`.

    Raises:
        UserError: if there is no recording of the wanted microphones, or a word id without a word.
    """
    chosen = parse_options(UASpeechOptions, options, CORPUS)
    folder = _existing(root)
    speakers = _speaker_folders(folder, chosen)
    words, source = find_words(folder, chosen.word_list)
    found = Found()
    matches = [
        (path, match)
        for speaker in speakers
        for path in audio_files(speaker)
        if (match := FILE_NAME.fullmatch(path.stem.upper()))
        and (not chosen.wanted or match["microphone"] in chosen.wanted)
    ]
    if not matches:
        raise UserError(
            f"{folder} holds no recording of the wanted microphones",
            expected="files such as M04_B1_C1_M5.wav",
            fix="correct --data_dir, or microphones in corpus_options",
        )
    by_path = dict(matches)
    rows = [_row(path, by_path[path], words, name or CORPUS) for path in usable(by_path, found)]
    _refuse_unknown_words(rows, source)
    tuned = utterances_for_dev(
        [(r["speaker"], r["utterance"]) for r in rows if r["split"] == "train"], chosen.dev_share
    )
    found.rows = [row | {"split": "dev"} if row["utterance"] in tuned else row for row in rows]
    _tell_known_empty(found)
    _compare_counts(found, matches)
    return found


def _existing(root: str | Path | None) -> Path:
    if root is None:
        raise UserError("the corpus 'uaspeech' has no folder", fix="set --data_dir to the folder that holds audio/")
    folder = Path(root)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}", expected="a copy of UASpeech", fix="correct --data_dir")
    return folder.parent if folder.name == "audio" else folder


def _speaker_folders(root: Path, chosen: UASpeechOptions) -> list[Path]:
    """The folders of the speakers, in either layout."""
    audio = root / "audio"
    if not audio.is_dir():
        raise UserError(f"{root} has no folder audio", expected="audio/<speaker>/*.wav", fix="correct --data_dir")
    copies = [name for name in PROCESSINGS if (audio / name).is_dir()]
    if chosen.processing and chosen.processing not in copies:
        raise UserError(f"{audio} has no '{chosen.processing}'", expected=", ".join(copies) or "a copy of that name")
    if len(copies) > 1 and chosen.processing is None:
        raise UserError(
            f"{audio} has {', '.join(copies)}: copies of the same recordings",
            expected="one of them, never several",
            fix=f'--corpus_options \'{{"processing": "{copies[0]}"}}\'',
        )
    base = audio / (chosen.processing or copies[0]) if copies else audio
    folders = [path for path in (*base.iterdir(), *_inside(base / "control")) if path.is_dir()]
    speakers = {path: path.name.upper() for path in sorted(folders) if SPEAKER.fullmatch(path.name.upper())}
    wanted = {chosen.speakers} if isinstance(chosen.speakers, str) else {*chosen.speakers}
    absent = sorted(wanted - {*speakers.values()})
    if absent:
        raise UserError(
            f"{base} has no speaker {', '.join(absent)}",
            expected=f"some of {', '.join(speakers.values())}",
            fix="correct speakers in corpus_options",
        )
    if wanted:
        return [path for path, name in speakers.items() if name in wanted]
    return [path for path, name in speakers.items() if chosen.controls or not name.startswith("C")]


def _inside(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _row(path: Path, match: re.Match[str], words: Words, name: str) -> dict[str, Any]:
    speaker, block, word_id = match["speaker"], match["block"], match["word_id"]
    intelligibility, word = INTELLIGIBILITY.get(speaker), word_of(words, block, word_id) or ""
    return {
        "id": match[0],
        "split": "test" if block in TEST_BLOCKS else "train",
        "speaker": namespaced(speaker, name),
        "text": word,
        "audio": str(path),
        "utterance": f"{speaker}_{block}_{word_id}",
        "block": block,
        "word_id": word_id,
        "word": word,
        "category": category_of(word_id),
        "microphone": match["microphone"],
        "intelligibility": intelligibility,
        "group": "control" if speaker.startswith("C") else "dysarthric",
        "band": "control" if speaker.startswith("C") else band_of(intelligibility) if intelligibility else "unknown",
    }


def _refuse_unknown_words(rows: Sequence[dict[str, Any]], source: Path) -> None:
    unknown = Counter(f"{row['block']} {row['word_id']}" for row in rows if not row["text"])
    if unknown:
        shown = ", ".join(sorted(unknown)[:UNKNOWN_WORDS_LISTED])
        raise UserError(
            f"{len(unknown)} word ids of the recordings are not in {source}: {shown}",
            expected="a word for every id",
            fix="give the word list of the same release (word_list in corpus_options)",
        )


def _tell_known_empty(found: Found) -> None:
    """The release's own empty files are no problem of this copy: they become a note."""
    for speaker, known in KNOWN_EMPTY.items():
        empty = [path for path, why in found.problems.items() if is_empty(why) and _speaker_of(path) == speaker]
        if 0 < len(empty) <= known:
            names = ", ".join(sorted(Path(path).stem for path in empty))
            found.notes.append(
                f"{len(empty)} of the {known} recordings of {speaker} that the release has empty: {names}"
            )
            found.problems = {path: why for path, why in found.problems.items() if path not in empty}


def _compare_counts(found: Found, matches: Sequence[tuple[Path, re.Match[str]]]) -> None:
    """Say where a speaker's recordings by a microphone are not as many as in the release; absent ones are a note."""
    counts: dict[str, Counter[str]] = {}
    for _, match in matches:
        counts.setdefault(match["speaker"], Counter())[match["microphone"]] += 1
    partly = []
    for speaker, present in counts.items():
        for microphone, known in known_recordings(speaker).items():
            if 2 * present[microphone] < known:
                partly.append(speaker)
            elif present[microphone] != known:
                found.differences.append(
                    f"{speaker}, {microphone}: {present[microphone]} recordings, known are {known}"
                )
    if partly:
        names = ", ".join(dict.fromkeys(partly))
        found.notes.append(f"only some of the recordings are here, or wanted, of {names}; these are not compared")


def _speaker_of(path: str) -> str:
    return Path(path).name.split("_")[0].upper()
