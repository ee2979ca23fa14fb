"""What the recipes around training can be told: scoring, language models, preparing a corpus, the overfit check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_asr_slr.arguments import at_least, one_of, option

BEAM_ENGINES = ("pyctcdecode", "nemo")
DECODERS = ("ctc", "greedy", "beam", "attention", "closed", "joint")
# Of `ScoreArguments`, those that say how one utterance is decoded, and their types.
DECODING: dict[str, Callable[[str], Any]] = {
    "decoder": str, "lm": str, "lm_weight": float, "word_score": float, "beam_width": int,
    "word_list": str, "closed_by": str, "ctc_weight": float, "max_length": int,
}  # fmt: skip


@dataclass
class ScoreArguments:
    """Which run is decoded, how, and against what."""

    run: str | None = option(None, "the run folder to score")
    split: str | None = option(None, "name of the split: test, dev, ...; default: the test split, with --tune dev")
    decoder: str = option(
        "greedy",
        "greedy or ctc (best path), beam (with or without a language model), attention (models with a decoder), closed "
        "(one entry of a word list an utterance), joint (the best of CTC and attention beams by both)",
    )
    word_list: str | None = option(
        None, "closed: the entries, one a line; default: the run's words, for other labels its training texts"
    )
    closed_by: str = option("ctc", "closed: probability that an entry is scored by: ctc, attention or joint")
    ctc_weight: float = option(0.3, "joint: weight of the CTC log-probability, the decoder's has the rest")
    protocol: str | None = option(None, "official-sclite, vac-python, slrt, raw, words; default: the run's")
    hypotheses: str | None = option(
        None, "score this file instead of a run: ctm, or JSON lines with id, speaker, reference, hypothesis"
    )
    references: str | None = option(None, "stm file that the hypotheses are scored against")
    output: str | None = option(None, "JSON file for the score of the hypotheses")
    batch_size: int = option(16, "utterances a forward pass")
    beam_width: int | None = option(None, "hypotheses kept by a beam search (beam, joint); default: as tuned, else 10")
    lm: str | None = option(None, "ARPA or KenLM file for the beam search, or none; default: as tuned, else none")
    lm_weight: float | None = option(None, "weight of the language model in the beam search; default: tuned, else 0.5")
    word_score: float | None = option(None, "added for every word in the beam search; default: as tuned, else 0")
    tune: bool = option(False, "choose lm_weight and word_score on the dev split, for later beam searches of this run")
    lm_weights: list[float] = option([0.0, 0.25, 0.5, 0.75, 1.0, 1.5], "tune: weights of the language model to try")
    word_scores: list[float] = option([0.0, 1.0, 2.0, 3.0, 4.0], "tune: word scores to try with each of them")
    decode_processes: int | None = option(
        None, "beam, tune: processes that share the utterances; default: one a core, where there is enough to search"
    )
    beam_engine: str = option(
        "pyctcdecode", "beam: pyctcdecode, or nemo (NeMo's search of whole batches, the faster one on a GPU only)"
    )
    max_length: int | None = option(
        None, "labels an utterance at most; default: 64 for attention and joint, as many as there are for the others"
    )
    manifest: str | None = option(None, "score another manifest instead of the run's own corpus")
    data_dir: str | None = option(None, "folder of that manifest's media")
    corpus_name: str | None = option(None, "namespace of that manifest's speakers")

    def problems(self) -> list[str]:
        """Sentences about values that cannot be used."""
        found = one_of("decoder", self.decoder, DECODERS) + one_of("beam_engine", self.beam_engine, BEAM_ENGINES)
        found += self._file_problems() + self._closed_problems()
        if self.lm and self.decoder != "beam" and not self.tune:
            found.append(f"lm is given but decoder '{self.decoder}' has no use for it; set --decoder beam")
        if self.beam_engine == "nemo" and (self.decoder != "beam" or self.tune):
            found.append("beam_engine nemo searches with given weights; set --decoder beam, and tune without it")
        given = [name for name in ("beam_width", "decode_processes", "max_length") if getattr(self, name) is not None]
        found += at_least(self, 1, "batch_size", *given)
        return found + (self._tuning_problems() if self.tune else [])

    @property
    def has_references(self) -> bool:
        """Whether the hypotheses are rows of predictions, which have their references beside them."""
        return bool(self.hypotheses) and Path(str(self.hypotheses)).suffix.lower() == ".jsonl"

    @property
    def scored_as(self) -> str:
        """The decoder's name in results: ctc is greedy, and closed says what scored, where that is not ctc alone."""
        if self.decoder == "closed" and self.closed_by != "ctc":
            return f"closed-{self.closed_by}"
        return "greedy" if self.decoder == "ctc" else self.decoder

    def _closed_problems(self) -> list[str]:
        found = one_of("closed_by", self.closed_by, ("ctc", "attention", "joint"))
        if self.decoder != "closed":
            given = {"word_list": self.word_list, "closed_by": self.closed_by != "ctc"}
            found += [f"{name} is given; set --decoder closed" for name, value in given.items() if value]
        if not 0 <= self.ctc_weight <= 1:
            found.append(f"ctc_weight is {self.ctc_weight}; expected 0 to 1")
        return found

    def _file_problems(self) -> list[str]:
        """Either a run is scored, or hypotheses against references."""
        if self.run and self.hypotheses:
            return ["run and hypotheses are both given; expected one of them"]
        if not self.run and not self.hypotheses:
            return ["no run to score; set --run FOLDER, or --hypotheses FILE.jsonl, or FILE.ctm --references FILE.stm"]
        if self.hypotheses and self.has_references and self.references:
            return [f"{self.hypotheses} has references of its own; leave out --references"]
        if self.hypotheses and not self.has_references and not self.references:
            return ["hypotheses are given but no references; set --references FILE.stm"]
        if self.hypotheses and self.tune:
            return ["tune works on a run; leave out --hypotheses"]
        alone = [name for name in ("references", "output") if getattr(self, name) and not self.hypotheses]
        return [f"{name} goes with --hypotheses FILE.ctm" for name in alone]

    def _tuning_problems(self) -> list[str]:
        found = []
        if not self.lm or self.lm == "none":
            found.append("tune has nothing to weigh without a language model; set --lm FILE (recipes/estimate_lm.py)")
        if self.decoder in ("attention", "closed", "joint"):
            found.append(f"tune is about the beam search; leave out --decoder {self.decoder}")
        if self.manifest:
            found.append("tune works on the run's own dev split; leave out --manifest")
        for one, several in (("lm_weight", "lm_weights"), ("word_score", "word_scores")):
            if getattr(self, one) is not None:
                found.append(f"{one} is what tune chooses; set --{several} instead")
            if not getattr(self, several):
                found.append(f"{several} is empty; expected at least one number")
        negative = [weight for weight in self.lm_weights if not 0 <= weight < float("inf")]
        return found + [f"lm_weights has {weight}; expected 0 or more" for weight in negative]


@dataclass
class AdaptationArguments:
    """How speaker teachers are adapted from their generalist."""

    generalist_tie: float = option(
        0.0, "weight of the generalist's soft targets while adapting (ctc_kd), labels have the rest; 0: labels only"
    )
    held_out_as_teacher: bool = option(False, "debug run: adapt a teacher of the held-out speakers, too")

    def problems(self) -> list[str]:
        """Sentences about values that cannot be used."""
        if 0 <= self.generalist_tie <= 1:
            return []
        return [f"generalist_tie is {self.generalist_tie}; expected 0 to 1"]


@dataclass
class PrepareArguments:
    """What is written when a corpus has been looked at."""

    output: str | None = option(None, "manifest.csv to write: the utterances whose files can be used")

    def problems(self) -> list[str]:
        """Sentences about values that cannot be used."""
        if self.output and not self.output.lower().endswith(".csv"):
            return [f"output is '{self.output}'; expected a .csv file"]
        return []


@dataclass
class OverfitArguments:
    """How many utterances are learnt by heart, and how long they may take."""

    utterances: int = option(5, "utterances to learn by heart")
    epochs: int = option(300, "epochs after which the check has failed")

    def problems(self) -> list[str]:
        """Sentences about values that cannot be used."""
        names = ("utterances", "epochs")
        return [f"{name} is {getattr(self, name)}; expected 1 or more" for name in names if getattr(self, name) < 1]


@dataclass
class LmArguments:
    """Which sentences a language model is estimated from, of which order, and where it goes."""

    run: str | None = option(None, "run folder: its training texts, its labels, its dev texts")
    text: str | None = option(None, "text file, one sentence a line, instead of the run's training texts")
    dev_text: str | None = option(None, "text file to measure the perplexity on; default: the run's dev split")
    normaliser: str | None = option(None, "text normaliser of the text files; default: the run's, else none")
    order: int = option(3, "length of the longest n-grams")
    output: str | None = option(None, "the ARPA file to write")

    def problems(self) -> list[str]:
        """Sentences about values that cannot be used."""
        found = []
        if not self.run and not self.text:
            found.append("no sentences are given; set --run FOLDER or --text FILE")
        if not self.output:
            found.append("no file to write; set --output FILE.arpa")
        if self.order < 2:
            found.append(f"order is {self.order}; expected 2 or more")
        return found


@dataclass
class PushArguments:
    """Which run is published, where, and what goes along."""

    run: str | None = option(None, "the run folder to publish")
    repository: str | None = option(None, "its name on the hub: OWNER/NAME, or NAME under the token's own account")
    private: bool = option(True, "a repository made now is private; one that exists stays as it is")
    update: bool = option(False, "write into a repository that exists and holds a model")
    dry_run: bool = option(False, "list the files and their sizes, send nothing")
    predictions: bool = option(False, "publish the predictions, too; they hold the transcripts of the scored splits")
    license: str | None = option(None, "licence of the weights as the hub names it (apache-2.0, cc-by-nc-4.0, ...)")

    def problems(self) -> list[str]:
        """Sentences about values that cannot be used."""
        found = [] if self.run else ["no run to publish; set --run FOLDER"]
        if not self.repository:
            found.append("no repository is named; set --repository OWNER/NAME")
        return found


@dataclass
class ExportArguments:
    """Which run is exported, in which format, and on what the export is checked."""

    run: str | None = option(None, "the run folder")
    format: str = option("onnx", "onnx, int8 (onnx with int8 weights), or torch_export")
    output: str | None = option(None, "the file; default: student.onnx, student-int8.onnx or student.pt2 in the run")
    split: str | None = option(None, "split the export is checked on; default: the run's dev split")
    utterances: int = option(32, "utterances of it that are compared")
    batch_size: int = option(4, "utterances a forward pass")
    tolerance: float = option(1e-4, "largest difference of a log-probability from PyTorch's (onnx, torch_export)")
    wer_change: float = option(0.01, "int8: largest rise of the WER on these utterances, as a fraction")

    def problems(self) -> list[str]:
        """Sentences about values that cannot be used."""
        found = [] if self.run else ["no run to export; set --run FOLDER"]
        found += one_of("format", self.format, ("onnx", "int8", "torch_export"))
        return found + at_least(self, 1, "utterances", "batch_size") + at_least(self, 0, "tolerance", "wer_change")
