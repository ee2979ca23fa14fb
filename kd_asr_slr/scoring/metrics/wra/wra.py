"""Word recognition accuracy as an `evaluate` module: the share of utterances recognised exactly."""

from __future__ import annotations

import datasets
import evaluate

from kd_asr_slr.scoring.protocols import hub_words
from kd_asr_slr.scoring.rates import count_all
from kd_asr_slr.scoring.rates import wra as exact_share

_DESCRIPTION = "Word recognition accuracy: utterances whose words equal the reference's, divided by all utterances."
_CITATION = ""
_INPUTS = """
Args:
    predictions: list of recognised texts.
    references: list of reference texts, none of them empty.
Returns:
    the word recognition accuracy as a fraction between 0 and 1.
"""


class WordRecognitionAccuracy(evaluate.Metric):
    """Share of exact utterances; texts are compared as they are, case included, but for runs of white space."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> float:
        counts = count_all([hub_words(text) for text in references], [hub_words(text) for text in predictions])
        return exact_share(counts)
