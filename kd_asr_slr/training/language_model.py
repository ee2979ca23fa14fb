"""The sentences of a language model: a run's own texts, or text files, and the labels that it must cover."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from kd_asr_slr.arguments import DataArguments
from kd_asr_slr.decoding.beam import SPECIAL_TOKENS
from kd_asr_slr.decoding.ngram_estimation import EstimatedModel
from kd_asr_slr.decoding.ngram_scorer import check_word_coverage
from kd_asr_slr.decoding.spelling import kind_of
from kd_asr_slr.errors import UserError
from kd_asr_slr.processing.auto import load_processor
from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.text import normalise, normaliser_of_split
from kd_asr_slr.tool_arguments import LmArguments, ScoreArguments
from kd_asr_slr.training.data import load_data, scored_corpus, training_part

Sentences = list[list[str]]


@dataclasses.dataclass(frozen=True, slots=True)
class LmTexts:
    """What a language model is made from and measured on.

    Args:
        training: sentences to estimate it from.
        dev: sentences to measure its perplexity on, or None.
        labels: the words that a recogniser can output, or None where there is no run, or its labels are no words.
    """

    training: Sentences
    dev: Sentences | None
    labels: list[str] | None


def lm_texts(arguments: LmArguments) -> LmTexts:
    """Load the sentences and labels that the arguments name.

    Raises:
        UserError: for a run or a text file that cannot be read.
    """
    data = scored_corpus(RunFolder(arguments.run).config(), ScoreArguments()) if arguments.run else None
    training = dev = None
    if arguments.text:
        training = read_sentences(Path(arguments.text), _normaliser(arguments, data, training=True))
    if arguments.dev_text:
        dev = read_sentences(Path(arguments.dev_text), _normaliser(arguments, data, training=False))
    if data and (training is None or dev is None):
        # Only the texts are needed, whatever state the media are in.
        corpus = load_data(dataclasses.replace(data, media_check="none"))
        training = training or [row.split() for row in training_part(corpus, data, data.train_split)["text"]]
        dev = dev or [row.split() for row in training_part(corpus, data, data.dev_split)["text"]]
    return LmTexts(training or [], dev, _labels(arguments.run) if arguments.run else None)


def read_sentences(path: Path, normaliser: str = "none") -> Sentences:
    """The words of every line of a text file, after normalisation; empty lines are left out.

    Raises:
        UserError: where the file is missing, not UTF-8, or has no words.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the text {path} cannot be read ({error})", expected="a text file in UTF-8") from error
    sentences = [words for line in lines if (words := normalise(line, normaliser).split())]
    if not sentences:
        raise UserError(f"the text {path} has no words", expected="one sentence a line")
    return sentences


def check_labels(labels: Sequence[str] | None, estimated: EstimatedModel, path: Path) -> str:
    """Compare a run's labels with the words of the text, before the labels are added to the model.

    Args:
        labels: of the run, or None.
        estimated: the model.
        path: the model's file, for messages.

    Returns:
        A sentence about the coverage.

    Raises:
        UserError: if no label is in the text.
    """
    if labels is None:
        return "labels: none to compare with (no run, or its labels are no whole words)"
    warning = check_word_coverage(labels, estimated.seen, path)
    if warning is None:
        return f"labels: all {len(labels)} labels of the run are in the text"
    return f"labels: {warning}; the others have the probability of words never seen"


def describe(estimated: EstimatedModel) -> str:
    """What the model is made of, and its discounts, a line for every length of n-grams."""
    lines = [f"{estimated.sentences} sentences, {estimated.tokens} words, {len(estimated.seen)} different"]
    for length, (table, discounts) in enumerate(zip(estimated.model.entries, estimated.discounts, strict=True), 1):
        amounts = " ".join(f"{amount:.3f}" for amount in discounts.amounts)
        origin = "" if discounts.estimated else " (fixed: too little text to estimate them)"
        lines.append(f"{length}-grams: {len(table)}, discounts {amounts}{origin}")
    return "\n".join(lines)


def _normaliser(arguments: LmArguments, data: DataArguments | None, training: bool) -> str:
    if arguments.normaliser:
        return arguments.normaliser
    return normaliser_of_split(data.normaliser, training=training) if data else "none"


def _labels(run: str) -> list[str] | None:
    processor = load_processor(run)
    if kind_of(processor) != "words":
        return None
    blank = processor.tokens[processor.blank_id]
    return [token for token in processor.tokens if token != blank and token not in SPECIAL_TOKENS]
