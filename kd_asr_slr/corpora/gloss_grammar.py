"""A small grammar of weather reports in glosses: what may follow what, and how often."""

from __future__ import annotations

import numpy as np

CLASSES: dict[str, tuple[str, ...]] = {
    "time": ("TODAY", "TOMORROW", "MORNING", "NIGHT", "WEEKEND"),
    "region": ("NORTH", "SOUTH", "EAST", "WEST", "COAST", "MOUNTAIN"),
    "weather": ("SUN", "RAIN", "SNOW", "WIND", "CLOUD", "FOG", "STORM", "FROST"),
    "degree": ("STRONG", "WEAK", "MUCH"),
    "temperature": ("WARM", "COLD", "MILD"),
    "link": ("THEN", "BUT", "ALSO"),
}
GLOSSES = tuple(sorted(gloss for members in CLASSES.values() for gloss in members))
SHORTEST, LONGEST = 3, 8

_FOLLOWERS: dict[str, dict[str, float]] = {
    "start": {"time": 0.75, "region": 0.25},
    "time": {"region": 0.6, "weather": 0.3, "temperature": 0.1},
    "region": {"weather": 0.75, "temperature": 0.25},
    "weather": {"degree": 0.35, "link": 0.35, "temperature": 0.2, "end": 0.1},
    "degree": {"weather": 0.2, "link": 0.4, "end": 0.4},
    "temperature": {"link": 0.4, "weather": 0.2, "end": 0.4},
    "link": {"region": 0.5, "weather": 0.3, "time": 0.2},
}


class GlossGrammar:
    """A Markov grammar: classes follow classes, and within a class each gloss prefers some followers.

    Args:
        rng: draws the preferences of each gloss, so that a seed is a language.

    Example:
        >>> grammar = GlossGrammar(np.random.default_rng(0))
        >>> sentence = grammar.sentence(np.random.default_rng(1))
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._choices = {
            (before, name): rng.dirichlet(np.full(len(members), 0.5))
            for before in ("start", *GLOSSES)
            for name, members in CLASSES.items()
        }

    def sentence(self, rng: np.random.Generator) -> list[str]:
        """Draw a sentence of 3 to 8 glosses."""
        while True:
            glosses, ended = self._walk(rng)
            if ended and SHORTEST <= len(glosses) <= LONGEST:
                return glosses

    def _walk(self, rng: np.random.Generator) -> tuple[list[str], bool]:
        glosses: list[str] = []
        state = "start"
        while len(glosses) <= LONGEST:
            followers = _FOLLOWERS[state]
            state = str(rng.choice(list(followers), p=list(followers.values())))
            if state == "end":
                return glosses, True
            weights = self._choices[glosses[-1] if glosses else "start", state]
            glosses.append(str(rng.choice(CLASSES[state], p=weights)))
        return glosses, False


def draw_sentences(count: int, rng: np.random.Generator) -> list[list[str]]:
    """Draw sentences of one language; a sentence comes again only where the grammar gives nothing new.

    Args:
        count: number of sentences.
        rng: draws the language and then the sentences.
    """
    grammar = GlossGrammar(rng)
    sentences: list[list[str]] = []
    seen: set[tuple[str, ...]] = set()
    for _ in range(count):
        sentence = grammar.sentence(rng)
        for _ in range(50):
            if tuple(sentence) not in seen:
                break
            sentence = grammar.sentence(rng)
        seen.add(tuple(sentence))
        sentences.append(sentence)
    return sentences
