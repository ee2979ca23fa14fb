"""TORGO: words and sentences by dysarthric speakers and controls, in sessions, by a head and an array microphone.

Folders are `<SPK>/Session<k>/{wav_headMic,wav_arrayMic,prompts}/NNNN.{wav,txt}`, the speakers right in the root or one
level down (F, FC, M, MC); the hub's copy is a table (see `torgo_table`). Every recording is in the split "train" or
"dev"; a speaker is held out with `split_policy: held_out_speaker`.

Source: Rudzicz, Namasivayam and Wolff 2012, "The TORGO database of acoustic and articulatory speech from speakers with
dysarthria" (Language Resources and Evaluation 46).
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import DatasetDict

from kd_asr_slr.corpora.media import read_header
from kd_asr_slr.corpora.recordings import Found, audio_files, counted, visible, why_unusable
from kd_asr_slr.corpora.schema import namespaced
from kd_asr_slr.corpora.speaker_shares import utterances_for_dev
from kd_asr_slr.corpora.synthetic import number_problem, parse_options
from kd_asr_slr.corpora.torgo_prompts import read_prompt, why_no_transcript
from kd_asr_slr.corpora.torgo_table import Recording, find_table, read_table
from kd_asr_slr.errors import UserError
from kd_asr_slr.text import torgo_prompt

CORPUS = "torgo"
DYSARTHRIC = ("F01", "F03", "F04", "M01", "M02", "M03", "M04", "M05")
CONTROLS = ("FC01", "FC02", "FC03", "MC01", "MC02", "MC03", "MC04")
SPEAKER = re.compile(r"[FM]C?[0-9]{2}", re.IGNORECASE)
MICROPHONES = {"wav_headmic": "head", "wav_arraymic": "array"}
PROMPTS = ("all", "single", "multi")
FEWEST_FRAMES = 35  # of 25 ms, every 10 ms, as Kaldi counts them
PREFER_HEAD = "prefer_head"


@dataclass(frozen=True)
class TorgoOptions:
    """Settings of the loader.

    Attributes:
        microphones: head, array or both; by default both. "prefer_head" is one recording a prompt: the head
            microphone's, where there is one.
        one_microphone: one recording a prompt, of the first of `microphones` that has it.
        prompts: all, single (isolated words) or multi (sentences); they are scored apart.
        controls: whether the healthy control speakers are loaded too.
        dev_share: share of each speaker's utterances that tunes.
    """

    microphones: Sequence[str] | str = field(default_factory=lambda: ("head", "array"))
    one_microphone: bool = False
    prompts: str = "all"
    controls: bool = True
    dev_share: float = 0.1

    def problems(self) -> list[str]:
        """One sentence for each value that cannot be used."""
        found = number_problem("dev_share", self.dev_share, 0.0, 0.9)
        if self.prompts not in PROMPTS:
            found.append(f"'prompts' is {self.prompts!r}, expected one of {', '.join(PROMPTS)}")
        if not self.order or not set(self.order) <= {"head", "array"}:
            found.append(
                f"'microphones' is {self.microphones!r}, expected head, array, a list of them, or {PREFER_HEAD}"
            )
        return found

    @property
    def order(self) -> tuple[str, ...]:
        """The microphones, the preferred one first."""
        if self.microphones == PREFER_HEAD:
            return ("head", "array")
        return (self.microphones,) if isinstance(self.microphones, str) else tuple(self.microphones)

    @property
    def one_each(self) -> bool:
        """Whether a prompt has one recording."""
        return self.one_microphone or self.microphones == PREFER_HEAD


def load(*, name: str | None, root: str | Path | None, options: dict[str, Any], **unused: Any) -> DatasetDict:
    """Load a copy of TORGO; what cannot be scored as words is left out, and counted.

    Args:
        name: namespace of the speakers; "torgo" by default.
        root: the folder of the speakers, or of the hub's copy (parquet, CSV or a saved dataset with audio files).
        options: see `TorgoOptions`.
        **unused: settings of other corpora.

    Raises:
        UserError: if the folder is no TORGO.

    Example:
        >>> corpus = load(name=None, root="TORGO", options={"prompts": "single"})  # doctest: +SKIP
    """
    return survey(name=name, root=root, options=options).as_corpus(f"the TORGO recordings in {root}")


def survey(*, name: str | None, root: str | Path | None, options: dict[str, Any], **unused: Any) -> Found:
    """What is there: usable rows, and what is left out with its reason; see `load`.

    Raises:
        UserError: if there is no folder, or no recording in it.
    """
    chosen = parse_options(TorgoOptions, options, CORPUS)
    if root is None or not Path(root).is_dir():
        raise UserError(f"there is no folder {root}", expected="a copy of TORGO", fix="set --data_dir")
    folder = Path(root)
    recordings = list(_walk(folder))
    if not recordings and (table := find_table(folder)) is not None:
        recordings = read_table(table, folder)
    if not recordings:
        raise UserError(
            f"{folder} holds no recording of TORGO",
            expected="<speaker>/Session1/wav_headMic/0001.wav, or the hub copy's table",
            fix="correct --data_dir",
        )
    return _cleaned(recordings, chosen, name or CORPUS)


def _walk(root: Path) -> Iterator[Recording]:
    """Every recording of the release's folders."""
    for speaker in _speaker_folders(root):
        for session in sorted(path for path in speaker.iterdir() if path.name.lower().startswith("session")):
            inside = {path.name.lower(): path for path in session.iterdir() if path.is_dir()}
            prompts = _prompts(inside.get("prompts"))
            for folder, microphone in MICROPHONES.items():
                for path in audio_files(inside[folder]) if folder in inside else ():
                    session_name = session.name.capitalize()
                    who = speaker.name.upper()
                    yield Recording(path, who, session_name, path.stem, microphone, prompts.get(path.stem))


def _speaker_folders(root: Path) -> list[Path]:
    outer = [path for path in root.iterdir() if path.is_dir()]
    folders = outer + [path for group in outer if not SPEAKER.fullmatch(group.name) for path in group.iterdir()]
    return sorted(path for path in folders if path.is_dir() and SPEAKER.fullmatch(path.name))


def _prompts(folder: Path | None) -> dict[str, str]:
    if folder is None:
        return {}
    files = [path for path in visible(folder) if path.suffix.lower() == ".txt"]
    return {path.stem: read_prompt(path) for path in files}


def _cleaned(recordings: Sequence[Recording], chosen: TorgoOptions, name: str) -> Found:
    found, reasons = Found(), Counter[str]()
    kept = []
    for item in recordings:
        reason = _why_not(item, chosen)
        if reason is not None:
            reasons[reason] += 1
            continue
        problem = why_unusable(item.path)
        if problem is not None:
            found.problems[str(item.path)] = problem
        elif _frames(item.path) < FEWEST_FRAMES:
            reasons[f"fewer than {FEWEST_FRAMES} frames"] += 1
        else:
            kept.append(item)
    if chosen.one_each:
        kept = _one_each(kept, chosen.order)
    tuned = utterances_for_dev([(item.speaker, item.utterance) for item in kept], chosen.dev_share)
    found.rows = [_row(item, name, "dev" if item.utterance in tuned else "train") for item in kept]
    absent = [speaker for speaker in wanted_speakers(chosen) if speaker not in {item.speaker for item in recordings}]
    if absent:
        found.notes.append(f"no recordings of {', '.join(absent)}, who are in the release")
    found.notes += counted({reason: count for reason, count in reasons.items() if reason}, "recordings")
    return found


def _why_not(item: Recording, chosen: TorgoOptions) -> str | None:
    """Why a recording is not wanted or has no transcript; "" where the user's own choice leaves it out."""
    if item.microphone not in chosen.order or (is_control(item.speaker) and not chosen.controls):
        return ""
    if item.prompt is None:
        return "no prompt"
    reason = why_no_transcript(item.prompt)
    if reason is not None:
        return reason
    return "" if chosen.prompts not in ("all", kind_of_prompt(torgo_prompt(item.prompt))) else None


def wanted_speakers(chosen: TorgoOptions) -> tuple[str, ...]:
    """The release's speakers that are loaded."""
    return (*DYSARTHRIC, *(CONTROLS if chosen.controls else ()))


def is_control(speaker: str) -> bool:
    """Whether a speaker is a healthy control (FC01, MC03)."""
    return speaker[1:2].upper() == "C"


def kind_of_prompt(text: str) -> str:
    """single for an isolated word, else multi."""
    return "single" if len(text.split()) == 1 else "multi"


def _frames(path: Path) -> int:
    """Whole frames of 25 ms, every 10 ms."""
    header = read_header(path)
    return max(0, 1 + math.floor((header.length / (header.rate or 1) - 0.025) / 0.010 + 1e-6))


def _one_each(recordings: Sequence[Recording], order: Sequence[str]) -> list[Recording]:
    of_utterance: Mapping[str, list[Recording]] = defaultdict(list)
    for item in recordings:
        of_utterance[item.utterance].append(item)
    return [min(items, key=lambda item: list(order).index(item.microphone)) for items in of_utterance.values()]


def _row(item: Recording, name: str, split: str) -> dict[str, Any]:
    text = torgo_prompt(item.prompt or "")
    return {
        "id": f"{item.utterance}_{item.microphone}",
        "split": split,
        "speaker": namespaced(item.speaker, name),
        "text": text,
        "audio": str(item.path),
        "utterance": item.utterance,
        "session": item.session,
        "microphone": item.microphone,
        "category": kind_of_prompt(text),
        "group": "control" if is_control(item.speaker) else "dysarthric",
    }
