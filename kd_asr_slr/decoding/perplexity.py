"""How well a language model foresees sentences, as KenLM's `query` counts it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kd_asr_slr.errors import UserError
from kd_asr_slr.progress import Progress

if TYPE_CHECKING:
    import kenlm


@dataclass(frozen=True, slots=True)
class Perplexity:
    """Perplexities of a language model over sentences; every sentence end is one more event to foresee.

    Args:
        with_unknown: words outside of the model count, with the probability of "<unk>".
        without_unknown: words outside of the model are left out (as a context they stay).
        sentences: number of sentences.
        words: number of their words, without the sentence ends.
        unknown: how many of these words the model does not have.
    """

    with_unknown: float
    without_unknown: float
    sentences: int
    words: int
    unknown: int

    def __str__(self) -> str:
        share = 100 * self.unknown / self.words
        return (
            f"perplexity {self.without_unknown:.2f} over {self.sentences} sentences "
            f"({self.words - self.unknown} known words + {self.sentences} sentence ends); "
            f"{self.with_unknown:.2f} with the {self.unknown} unknown words ({share:.1f} %) as <unk>"
        )


def perplexity(model: kenlm.Model, sentences: Iterable[Sequence[str]]) -> Perplexity:
    """The perplexity of sentences; those without words are left out.

    Args:
        model: a loaded KenLM model (`ngram_scorer.load_kenlm`).
        sentences: tokens of every sentence.

    Raises:
        UserError: if there are no words.
    """
    known_sum = unknown_sum = 0.0
    events = unknown = ends = 0
    for sentence in Progress([words for words in sentences if words], "perplexity", "sentences"):
        ends += 1
        for log10_prob, _, outside in model.full_scores(" ".join(sentence), bos=True, eos=True):
            events += 1
            if outside:
                unknown += 1
                unknown_sum += log10_prob
            else:
                known_sum += log10_prob
    if not events:
        raise UserError("there are no words to measure the perplexity on", expected="at least one sentence")
    return Perplexity(
        with_unknown=10 ** (-(known_sum + unknown_sum) / events),
        without_unknown=10 ** (-known_sum / (events - unknown)),
        sentences=ends,
        words=events - ends,
        unknown=unknown,
    )
