"""A back-off n-gram model in memory, and the ARPA file that KenLM reads."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kd_asr_slr.errors import UserError
from kd_asr_slr.files import write_text

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
NEVER = -99.0  # ARPA's log10 of a probability of 0

Ngram = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NgramModel:
    """Probabilities and back-off weights of an n-gram model, in log10 as ARPA has them.

    Args:
        entries: for n = 1, 2, ... N the n-grams with (log10 probability, log10 back-off weight).
    """

    entries: Sequence[Mapping[Ngram, tuple[float, float]]]

    @property
    def order(self) -> int:
        """N, the length of the longest n-grams."""
        return len(self.entries)

    @property
    def words(self) -> list[str]:
        """Everything that the model gives a probability: words, "</s>" and "<unk>" (not "<s>")."""
        return [word for (word,) in self.entries[0] if word != BEGIN]

    def log10_prob(self, word: str, context: Sequence[str] = ()) -> float:
        """The log10 probability of a word after a context; a word outside the model is "<unk>".

        Args:
            word: a word, "</s>" or "<unk>".
            context: the words before it, the nearest last, "<s>" first where the sentence begins in it.

        Source: Katz, "Estimation of probabilities from sparse data" (1987), the back-off that ARPA files stand for.
        """
        last = word if (word,) in self.entries[0] else UNKNOWN
        history = tuple(context)[-(self.order - 1) :] if self.order > 1 else ()
        weight = 0.0
        while (*history, last) not in self.entries[len(history)]:
            # An unseen history passes on all of its probability.
            weight += self.entries[len(history) - 1].get(history, (0.0, 0.0))[1]
            history = history[1:]
        return weight + self.entries[len(history)][*history, last][0]


def read_arpa(path: str | Path) -> NgramModel:
    """Read an ARPA file (plain or gzip).

    Args:
        path: a file that KenLM reads (`ngram_scorer.load_kenlm`), so its form is not checked again.

    Raises:
        UserError: where it is KenLM's binary form, which does not list its n-grams.
    """
    path = Path(path)
    with path.open("rb") as file:
        opener = gzip.open if file.read(2) == b"\x1f\x8b" else open
    with opener(path, "rb") as file:
        if not file.read(1024).lstrip().startswith(b"\\data\\"):
            raise UserError(
                f"the language model '{path}' is binary: it does not list its n-grams", fix="give its ARPA file"
            )
    with opener(path, "rt", encoding="utf-8", errors="replace") as file:
        return NgramModel(list(_read_entries(file)))


def _read_entries(lines: Iterable[str]) -> Iterator[dict[Ngram, tuple[float, float]]]:
    """Yield the n-grams of each section: `log10 word ... word [log10 back-off]`."""
    table: dict[Ngram, tuple[float, float]] | None = None
    length = 0
    for line in lines:
        parts = line.split()
        if not parts:
            continue
        if parts[0].startswith("\\"):  # "\\data\\", "\\2-grams:", "\\end\\"
            if table is not None:
                yield table
            table, length = ({}, length + 1) if parts[0].endswith("-grams:") else (None, length)
        elif table is not None:
            back_off = float(parts[length + 1]) if len(parts) > length + 1 else 0.0
            table[tuple(parts[1 : length + 1])] = float(parts[0]), back_off


def renamed(model: NgramModel, names: Mapping[str, str], unknown_offset: float = 0.0) -> NgramModel:
    """The model over other names of its words: what a recogniser with these words only can ask of it.

    Args:
        model: any.
        names: new name by word. n-grams with other words are left out; words outside of the model get the probability
            of "<unk>" as 1-grams.
        unknown_offset: added to the log10 probability of those.
    """
    own = {**names, **{mark: mark for mark in (BEGIN, END, UNKNOWN)}}
    tables = [
        {tuple(own[word] for word in ngram): values for ngram, values in table.items() if own.keys() >= set(ngram)}
        for table in model.entries
    ]
    unknown = model.entries[0].get((UNKNOWN,), (NEVER, 0.0))[0] + unknown_offset
    missing = {(name,): (unknown, 0.0) for word, name in names.items() if (word,) not in model.entries[0]}
    return NgramModel([tables[0] | missing, *tables[1:]])


def write_arpa(model: NgramModel, path: str | Path) -> Path:
    """Write a model as an ARPA file; the file appears whole or not at all.

    Args:
        model: of order 2 or more (KenLM reads no other).
        path: the file; its folder is made.

    Raises:
        UserError: where the file cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_text(path, "\n".join(_lines(model)) + "\n")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror})", fix="give another file to --output") from error


def _lines(model: NgramModel) -> Iterator[str]:
    yield "\\data\\"
    for length, table in enumerate(model.entries, 1):
        yield f"ngram {length}={len(table)}"
    for length, table in enumerate(model.entries, 1):
        yield f"\n\\{length}-grams:"
        last = length == model.order
        for ngram, (log10_prob, back_off) in table.items():
            yield f"{_number(log10_prob)}\t{' '.join(ngram)}" + ("" if last else f"\t{_number(back_off)}")
    yield "\n\\end\\"


def _number(log10: float) -> str:
    """Seven digits, as many as KenLM's floats hold; rounding must not make a probability larger than 1."""
    return f"{min(log10, 0.0) + 0.0:.7g}"  # + 0.0: no "-0"
