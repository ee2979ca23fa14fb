"""Beam search over whole words: pyctcdecode's search without its strings, where every token is a word.

pyctcdecode keeps hypotheses as strings and builds, hashes and compares them in every frame, whatever the vocabulary;
that is most of its time. Where a token is a word, a hypothesis is a place in a tree of words. The search is the same,
down to the word that the language model scores only when the next one begins, and finds the same; a test holds that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING

from kd_asr_slr.decoding.beam_options import BeamHypothesis, BeamOptions
from kd_asr_slr.decoding.candidates import Candidates
from kd_asr_slr.decoding.ngram_scorer import NgramScorer

if TYPE_CHECKING:
    import kenlm

IN_WORD, IN_BLANK = -1, -2  # no token indices
IMPOSSIBLE = -math.inf


@dataclass(slots=True, eq=False)
class Place:
    """A word sequence as a place in the tree of those that a search follows.

    Attributes:
        parent: the place one word before; None at the root, the empty sequence.
        last: token index of the last word.
        before: the language model's score of the words but for the last one.
        state: its state there.
        shown: that score, and what the last word cannot escape any more.
        after: score and state behind the last word, once asked for.
        children: places one word further, by that word.
    """

    parent: Place | None
    last: int
    before: float
    state: kenlm.State | None
    shown: float
    after: tuple[float, kenlm.State | None] | None = None
    children: dict[int, Place] = field(default_factory=dict)

    def words(self, longest: int | None = None) -> list[int]:
        """The token indices of the sequence, or the last of them."""
        place: Place = self
        found: list[int] = []
        while place.parent is not None and len(found) != longest:
            found.append(place.last)
            place = place.parent
        return found[::-1]


# A hypothesis that a frame leads to: its score with the language model's, that of the network alone, its place, and
# whether its path ends in a blank (`IN_BLANK`), in the last word (`IN_WORD`), or in one more word, which begins here.
Hypothesis = tuple[float, float, Place, int]
# Places that are followed, with the network's scores of the paths that end there in a blank, and in the last word.
Beam = dict[Place, list[float]]


class WordSearch:
    """Searches the candidates of utterances for their best sentence.

    Args:
        words: word by token index, without the blank.
        blank: index of the blank.
        scorer: the language model, or None.
    """

    def __init__(self, words: Mapping[int, str], blank: int, scorer: NgramScorer | None) -> None:
        self._words = words
        self._blank = blank
        self._scorer = scorer
        # Words that a hypothesis must share with a better one to be dropped by `prune_history`.
        self._history = 1 if scorer is None else max(1, scorer.order - 1)

    def best(self, candidates: Candidates, options: BeamOptions) -> BeamHypothesis:
        """The best sentence of an utterance; nothing, with a score of 0, where it has no frames."""
        return self.finish(self.advance(self.start(), candidates, options))

    def start(self) -> Beam:
        """What an utterance begins with."""
        state = None if self._scorer is None else self._scorer.get_start_state()
        return {Place(None, -1, 0.0, state, 0.0, after=(0.0, state)): [0.0, IMPOSSIBLE]}

    def advance(self, beam: Beam, candidates: Candidates, options: BeamOptions) -> Beam:
        """The places that are followed after some more frames."""
        pending = self._pending(candidates)
        for tokens, values in candidates.frames():
            found = _best(self._extend(beam, dict(zip(tokens, values, strict=True)), pending), options)
            if options.prune_history:
                found = self._distinct(found)
            beam = self._entered(found, pending)
        return beam

    def finish(self, beam: Beam) -> BeamHypothesis:
        """The best sentence, with the language model's score of its last word and its end."""
        # No frame has come; a path of probability 1 has the same scores, but behind a word.
        if all(place.parent is None and paths == [0.0, IMPOSSIBLE] for place, paths in beam.items()):
            return BeamHypothesis([], "", 0.0)
        scores = {place: log_add(*paths) + place.before for place, paths in beam.items()}
        if self._scorer is not None:
            for place in scores:
                last = self._words.get(place.last, "")
                scores[place] += self._scorer.score(place.state, last, is_last_word=True)[0]
        place = max(scores, key=scores.__getitem__)
        ids = place.words()
        return BeamHypothesis(ids, " ".join(self._words[index] for index in ids), scores[place])

    def _pending(self, candidates: Candidates) -> dict[int, float]:
        """What a hypothesis whose last word this is cannot escape any more, for every word that occurs."""
        words = set(candidates.tokens.tolist()) - {self._blank}
        scorer = self._scorer
        return {word: 0.0 if scorer is None else scorer.score_partial_token(self._words[word]) for word in words}

    def _extend(self, beam: Beam, frame: dict[int, float], pending: Mapping[int, float]) -> list[Hypothesis]:
        """Every place one frame further; paths that lead to the same hypothesis are summed up."""
        blank = frame.pop(self._blank, None)
        found: list[Hypothesis] = []
        in_word: dict[Place, float] = {}
        for place, (in_blank, in_last) in beam.items():
            both = log_add(in_blank, in_last)
            if blank is not None:
                found.append((both + blank + place.shown, both + blank, place, IN_BLANK))
            if not frame:
                continue
            after = (place.after or self._after(place))[0]
            for word, value in frame.items():
                source = both
                if word == place.last:  # it goes on; behind a blank it begins once more
                    in_word[place] = log_add(in_word.get(place, IMPOSSIBLE), in_last + value)
                    source = in_blank
                child = place.children.get(word)
                if child is None:
                    score = source + value
                    found.append((score + after + pending[word], score, place, word))
                else:
                    in_word[child] = log_add(in_word.get(child, IMPOSSIBLE), source + value)
        found += [(score + place.shown, score, place, IN_WORD) for place, score in in_word.items()]
        return found

    def _entered(self, found: list[Hypothesis], pending: Mapping[int, float]) -> Beam:
        """The hypotheses at their places; only a new word that was good enough to be kept gets one."""
        beam: Beam = {}
        for _, score, place, end in found:
            if end == IN_BLANK:
                beam.setdefault(place, [IMPOSSIBLE, IMPOSSIBLE])[0] = score
                continue
            if end != IN_WORD:
                before, state = place.after or self._after(place)
                child = place.children[end] = Place(place, end, before, state, before + pending[end])
                place = child
            beam.setdefault(place, [IMPOSSIBLE, IMPOSSIBLE])[1] = score
        return beam

    def _after(self, place: Place) -> tuple[float, kenlm.State | None]:
        """The language model's score of all words of a place, and its state."""
        score, state = (0.0, None) if self._scorer is None else self._scorer.score(place.state, self._words[place.last])
        place.after = place.before + score, state
        return place.after

    def _distinct(self, found: list[Hypothesis]) -> list[Hypothesis]:
        """The best of the hypotheses that the language model cannot tell apart any more."""
        distinct: dict[tuple[int, ...], Hypothesis] = {}
        for hypothesis in found:
            _, _, place, end = hypothesis
            words = place.words(self._history + 1) if end < 0 else [*place.words(self._history), end]
            distinct.setdefault((end == IN_BLANK, *words), hypothesis)
        return list(distinct.values())


def _best(found: list[Hypothesis], options: BeamOptions) -> list[Hypothesis]:
    """The best first, no more than the beam is wide, none that is worse than the best one by too much."""
    total = itemgetter(0)
    lowest = max(found, key=total)[0] + options.beam_prune_logp
    kept = [hypothesis for hypothesis in found if hypothesis[0] >= lowest]
    kept.sort(key=total, reverse=True)
    return kept[: options.beam_width]


def log_add(first: float, second: float) -> float:
    """log(exp(first) + exp(second)); at least one is finite, or both are `IMPOSSIBLE`."""
    if first < second:
        first, second = second, first
    return first if second == IMPOSSIBLE else first + math.log1p(math.exp(second - first))
