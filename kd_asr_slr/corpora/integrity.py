"""The integrity report of a corpus: what is there, against what should be, and every file that cannot be used."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kd_asr_slr.corpora.file_facts import FileFacts
from kd_asr_slr.corpora.known_counts import KnownCorpus
from kd_asr_slr.corpora.schema import shortened

STRIDES = (1, 2, 4, 8)
_MOST_LISTED = 20
_MOST_EMPTIED = 5

Clean = Callable[[str, str], str]
"""Split and text -> the labels' text."""


@dataclass(frozen=True)
class Item:
    """One utterance as a report sees it.

    Attributes:
        path: its file; None where it has none.
        frames: of its video, where something else than the features says so.
        left_out: whether it is in the annotations but not in the corpus.
    """

    id: str
    split: str
    speaker: str
    text: str
    path: str | None = None
    frames: int | None = None
    left_out: bool = False


@dataclass
class Report:
    """What was found; `problems` is empty where everything is right.

    Attributes:
        title: what was looked at.
        counts: split -> name -> number.
        infeasible: split -> "raw" or "clean" -> stride -> utterances that CTC cannot emit; splits without lengths have
            none.
        speakers: speaker -> utterances and, for recordings, hours.
        groups: column (block, microphone, ...) -> value -> utterances.
        problems, notes: sentences.
    """

    title: str
    counts: dict[str, dict[str, int | float]] = field(default_factory=dict)
    infeasible: dict[str, dict[str, dict[int, int]]] = field(default_factory=dict)
    speakers: dict[str, tuple[int, float | None]] = field(default_factory=dict)
    groups: dict[str, dict[str, int]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def make_report(
    title: str,
    items: Sequence[Item],
    facts: FileFacts,
    clean: Clean,
    frames_needed: Callable[[Sequence[str]], int],
    known: KnownCorpus | None = None,
    known_problems: Mapping[str, str] | None = None,
    notes: Iterable[str] = (),
) -> Report:
    """Count a corpus and compare it with what is known of it.

    Args:
        title: what is being looked at.
        items: every utterance of the annotations.
        facts: what was found in the files of the items.
        clean: the normaliser of each split.
        frames_needed: labels -> fewest output frames of any CTC path for them.
        known: the counts of the whole corpus.
        known_problems: sentences, by path, about files beyond what `facts` says.
        notes: sentences to hand on.
    """
    report = Report(title, notes=list(notes))
    cleaned = {item: clean(item.split, item.text).split() for item in items}
    splits = list(dict.fromkeys(item.split for item in items))
    train = {label for item in items if item.split == splits[0] and not item.left_out for label in cleaned[item]}
    for split in splits:
        part = [item for item in items if item.split == split]
        report.counts[split] = _counts(part, cleaned, facts, None if split == splits[0] else train)
        report.infeasible[split] = _infeasible(part, cleaned, facts, frames_needed)
    report.speakers = _speakers(items, facts)
    report.problems = [*{**(known_problems or {}), **facts.problems}.values()]
    report.problems += _emptied(cleaned)
    report.problems += _frame_problems(items, facts)
    report.problems += _differences(report, known)
    report.notes += _file_notes(facts)
    return report


def _counts(
    part: Sequence[Item], cleaned: Mapping[Item, list[str]], facts: FileFacts, train: set[str] | None
) -> dict[str, int | float]:
    raw = [label for item in part for label in item.text.split()]
    usable = [item for item in part if not item.left_out]
    labels = [label for item in usable for label in cleaned[item]]
    counts: dict[str, int | float] = {
        "utterances": len(part),
        "tokens": len(raw),
        "types": len(set(raw)),
    }
    headers = [header for item in usable if (header := facts.headers.get(item.path or ""))]
    seconds = [header.length / header.rate for header in headers if header.rate]
    counts["speakers" if seconds else "signers"] = len({item.speaker for item in part})
    frames = [count for item in usable if (count := _frames(item, facts)) is not None]
    if frames and len(frames) == len(usable):
        counts["frames"] = sum(frames)
    if seconds:
        counts["hours"] = sum(seconds) / 3600
    counts |= {"clean_tokens": len(labels), "clean_types": len(set(labels))}
    if train is not None:
        unseen = [label for label in labels if label not in train]
        counts |= {"oov_tokens": len(unseen), "oov_types": len(set(unseen))}
    return counts


def _frames(item: Item, facts: FileFacts) -> int | None:
    """Frames of an utterance: of its video where they are known, else of its features."""
    if item.frames is not None:
        return item.frames
    header = facts.headers.get(item.path or "")
    return header.length if header is not None and header.rate is None else None


def _infeasible(
    part: Sequence[Item],
    cleaned: Mapping[Item, list[str]],
    facts: FileFacts,
    frames_needed: Callable[[Sequence[str]], int],
) -> dict[str, dict[int, int]]:
    """Utterances with fewer frames at a stride (rounded down) than their labels need; those left out count too."""
    lengths = {item: frames for item in part if (frames := _frames(item, facts)) is not None}
    if not lengths:
        return {}
    labels = {"raw": lambda item: item.text.split(), "clean": lambda item: cleaned[item]}
    needed = {name: {item: frames_needed(of(item)) for item in lengths} for name, of in labels.items()}
    return {
        name: {stride: sum(lengths[item] // stride < most[item] for item in lengths) for stride in STRIDES}
        for name, most in needed.items()
    }


def _emptied(cleaned: Mapping[Item, list[str]]) -> list[str]:
    """One sentence about transcripts of which cleaning leaves nothing; none where there are none."""
    items = [item for item, labels in cleaned.items() if not labels and item.text.strip() and not item.left_out]
    if not items:
        return []
    listed = ", ".join(f"{item.text!r} of '{item.id}' in '{item.split}'" for item in items[:_MOST_EMPTIED])
    return [f"{len(items)} transcripts are empty after cleaning: {listed}"]


def _speakers(items: Sequence[Item], facts: FileFacts) -> dict[str, tuple[int, float | None]]:
    utterances = Counter(item.speaker for item in items if not item.left_out)
    seconds: dict[str, float] = defaultdict(float)
    for item in items:
        header = facts.headers.get(item.path or "")
        if header is not None and header.rate:
            seconds[item.speaker] += header.length / header.rate
    return {name: (count, seconds[name] / 3600 if seconds else None) for name, count in sorted(utterances.items())}


def _frame_problems(items: Sequence[Item], facts: FileFacts) -> list[str]:
    """Feature files with another number of frames than their video; one sentence where most and many have."""
    pairs = [(item, facts.headers[item.path].length) for item in items if item.frames and item.path in facts.headers]
    wrong = [(item, length) for item, length in pairs if length != item.frames]
    sentences = [f"{item.path}: {length} frames, but the video has {item.frames}" for item, length in wrong]
    if len(wrong) > max(_MOST_LISTED, len(pairs) / 2):
        return [f"{len(wrong)} of {len(pairs)} feature files have other frames than their video, first {sentences[0]}"]
    return sentences


def _differences(report: Report, known: KnownCorpus | None) -> list[str]:
    if known is None:
        return []
    return [
        f"{split}: {_number(report.counts[split][name])} {name.replace('_', ' ')}, known are {_number(count)}"
        for split, counts in known.splits.items()
        if split in report.counts
        for name, count in counts.given().items()
        if name in report.counts[split] and report.counts[split][name] != count
    ]


def _file_notes(facts: FileFacts) -> list[str]:
    clipped = [f"{path}: clipped ({share:.2%} of its samples at full scale)" for path, share in facts.clipped.items()]
    quiet = [f"{path}: nearly silent (below -60 dB of full scale)" for path in facts.quiet]
    return [note for notes in (clipped, quiet) for note in shortened(notes, _MOST_LISTED)]


def render(report: Report) -> str:
    """The report as text: tables, notes, and every problem on a line of its own."""
    blocks = [report.title, _table(report.counts)]
    if any(report.infeasible.values()):
        blocks.append(_infeasible_table(report.infeasible))
    blocks.append(_speaker_table(report.speakers))
    blocks += [_group_table(name, counts) for name, counts in report.groups.items()]
    if report.notes:
        blocks.append("\n".join([f"notes: {len(report.notes)}", *(f"  - {note}" for note in report.notes)]))
    lines = [f"  {number}. {problem}" for number, problem in enumerate(report.problems, 1)]
    blocks.append("\n".join([f"problems: {len(lines)}", *lines]) if lines else "problems: none")
    return "\n\n".join(blocks)


def _table(counts: Mapping[str, Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for values in counts.values() for name in values))
    rows = [["split", *(name.replace("_", " ") for name in names)]]
    for split, values in counts.items():
        rows.append([split, *(_number(values[name]) if name in values else "-" for name in names)])
    return _aligned(rows)


def _infeasible_table(infeasible: Mapping[str, Mapping[str, Mapping[int, int]]]) -> str:
    rows = [["split", "labels", *(f"stride {stride}" for stride in STRIDES)]]
    for split, kinds in infeasible.items():
        rows += [[split, kind, *(_number(counts[stride]) for stride in STRIDES)] for kind, counts in kinds.items()]
    return "utterances too short for CTC: frames // stride < labels + repeats\n" + _aligned(rows)


def _speaker_table(speakers: Mapping[str, tuple[int, float | None]]) -> str:
    timed = any(hours is not None for _, hours in speakers.values())
    rows = [["speaker", "utterances", *(["hours"] if timed else [])]]
    for name, (count, hours) in speakers.items():
        rows.append([name, _number(count), *([f"{hours:.3f}"] if timed and hours is not None else [])])
    return _aligned(rows)


def _group_table(name: str, counts: Mapping[str, int]) -> str:
    return _aligned([[name, "utterances"], *([value, _number(count)] for value, count in counts.items())])


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns of one width: the first to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in rows if column < len(row)) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _number(value: int | float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"
