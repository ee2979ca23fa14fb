"""Word error rate of a corpus as an `evaluate` module; gives the values of the hub's `wer`."""

from __future__ import annotations

import datasets
import evaluate

from kd_asr_slr.scoring.protocols import hub_words
from kd_asr_slr.scoring.rates import count_all
from kd_asr_slr.scoring.rates import wer as corpus_wer

_DESCRIPTION = "Word error rate: (substitutions + deletions + insertions) / reference words, summed over the corpus."
_CITATION = ""
_INPUTS = """
Args:
    predictions: list of recognised texts.
    references: list of reference texts, none of them empty.
    concatenate_texts: align the whole corpus as one text, instead of every utterance with its own reference.
Returns:
    the word error rate as a fraction; it can exceed 1.
"""


class WordErrorRate(evaluate.Metric):
    """Micro-average WER with unit costs; texts are compared as they are, case included."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions: list[str], references: list[str], concatenate_texts: bool = False) -> float:
        guesses = [hub_words(text) for text in predictions]
        truths = [hub_words(text) for text in references]
        if concatenate_texts:
            guesses = [[word for words in guesses for word in words]]
            truths = [[word for words in truths for word in words]]
        return corpus_wer(count_all(truths, guesses))
