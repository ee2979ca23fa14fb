"""Who scores what on whom: every teacher on every speaker, so that it shows which teacher knows which speaker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import DatasetDict

from kd_asr_slr.arguments import DataArguments
from kd_asr_slr.files import write_json, write_text
from kd_asr_slr.models.auto import load_model
from kd_asr_slr.processing.auto import load_processor
from kd_asr_slr.processing.collator import Collator
from kd_asr_slr.progress import Progress
from kd_asr_slr.reporting.tables import markdown_table, percent
from kd_asr_slr.scoring.protocols import get_protocol
from kd_asr_slr.scoring.rates import by_group, wer, wra
from kd_asr_slr.scoring.score import count_rows
from kd_asr_slr.training.data import evaluation_items, protocol_of, training_part
from kd_asr_slr.training.evaluation import greedy_decoding, predict

NAME = "who_scores_what"
Rates = dict[str, dict[str, float]]  # speaker -> wer, wra


def cross_scores(teachers: Mapping[str, str | Path], corpus: DatasetDict, data: DataArguments, batch: int) -> Any:
    """Greedy rates of every teacher on every speaker's dev utterances, and on the test speakers'.

    Args:
        teachers: name -> run folder; the generalist among them.
        corpus: from `load_data`.
        data: names dev and test split, and the protocol.
        batch: utterances a forward pass.

    Returns:
        {"dev": {teacher: {speaker: {"wer", "wra"}}}, "test": the same}; rates as fractions.
    """
    found: dict[str, dict[str, Rates]] = {"dev": {}, "test": {}}
    for name, folder in Progress(teachers.items(), "who scores what", "teachers"):
        model, processor = load_model(str(folder)), load_processor(str(folder))
        for key, split in (("dev", data.dev_split), ("test", data.test_split)):
            items = evaluation_items(training_part(corpus, data, split), processor, data)
            rows = predict(model, items, Collator(processor.input_name), greedy_decoding(processor), batch, name)
            counts = count_rows(rows, get_protocol(protocol_of(data)), split)
            groups = by_group(counts, [row["speaker"] for row in rows])
            found[key][name] = {who: {"wer": wer(group), "wra": wra(group)} for who, group in groups.items()}
    return found


def write_cross_scores(folder: str | Path, scores: Mapping[str, Mapping[str, Rates]], own: Mapping[str, str]) -> str:
    """Write `who_scores_what.json` and `.md` into the folder of an adaptation; returns the table.

    Args:
        folder: where they go.
        scores: from `cross_scores`.
        own: teacher -> the speaker it was adapted to.
    """
    table = cross_table(scores, own)
    write_json(Path(folder) / f"{NAME}.json", {"schema": 1, "own": dict(own), **scores})
    write_text(Path(folder) / f"{NAME}.md", table)
    return table


def cross_table(scores: Mapping[str, Mapping[str, Rates]], own: Mapping[str, str]) -> str:
    """Markdown: a row a teacher, a column a speaker, WER (WRA) in %; own speakers in bold, the best foreign one named.

    Example:
        >>> rates = {"dev": {"theo": {"fsdd/theo": {"wer": 0.1, "wra": 0.9}}}, "test": {"theo": {}}}
        >>> print(cross_table(rates, {"theo": "fsdd/theo"}).splitlines()[0])
        | teacher | fsdd/theo, dev |
    """
    columns = [
        (split, who) for split in ("dev", "test") for who in sorted({w for r in scores[split].values() for w in r})
    ]
    tuned = {who for split, who in columns if split == "dev"}
    unheard = {who for _, who in columns if who not in tuned}
    header = ["teacher", *(f"{who}, {split}{' (held out)' if who in unheard else ''}" for split, who in columns)]
    lines = []
    for teacher in scores["dev"]:
        cells = [_cell(scores[split][teacher].get(who), own.get(teacher) == who) for split, who in columns]
        lines.append([teacher, *cells])
    table = markdown_table(header, lines, [False] + [True] * len(columns))
    found = [
        line for who in sorted({who for split, who in columns if split == "test"}) if (line := _best(scores, own, who))
    ]
    return table + "\nGreedy WER % (WRA %); a teacher's own speaker in bold.\n" + "".join(f"{line}\n" for line in found)


def _cell(rates: dict[str, float] | None, is_own: bool) -> str:
    if rates is None:
        return "-"
    shown = f"{percent(rates['wer'])} ({percent(rates['wra'])})"
    return f"**{shown}**" if is_own else shown


def _best(scores: Mapping[str, Mapping[str, Rates]], own: Mapping[str, str], who: str) -> str:
    """The best foreign teacher of a test speaker: chosen on the test itself, so an oracle and no system."""
    foreign = {name: rates[who]["wer"] for name, rates in scores["test"].items() if own.get(name) not in (None, who)}
    if not foreign:
        return ""
    best = min(foreign, key=lambda name: foreign[name])
    return f"Best foreign teacher of {who} (an oracle: chosen on the test): {best}, {percent(foreign[best])} % WER."
