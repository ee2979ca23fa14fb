"""What `results.json` must hold, checked by hand so that every problem is named at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

SCHEMA = 1

# Rates in the file may be rounded to four decimals; anything further off is another number.
RATE_TOLERANCE = 6e-5

Rule = tuple[Callable[[Any], bool], str]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_error_rate(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_interval(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_error_rate, value)) and value[0] <= value[1]


def _is_named(value: Any) -> bool:
    return _is_text(value) or (isinstance(value, dict) and _is_text(value.get("name")))


def _is_commonest(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("text"), str) and SHARE[0](value.get("share"))


TEXT: Rule = (_is_text, "a non-empty string")
COUNT: Rule = (_is_count, "a whole number, 0 or more")
POSITIVE: Rule = (lambda value: _is_count(value) and value > 0, "a whole number, 1 or more")
ERROR_RATE: Rule = (_is_error_rate, "a fraction, 0 or more (0.4841, not 48.41)")
SHARE: Rule = (lambda value: _is_error_rate(value) and value <= 1, "a fraction between 0 and 1")
INTERVAL: Rule = (_is_interval, "[low, high] as fractions")
INTERVAL_OR_NULL: Rule = (lambda value: value is None or _is_interval(value), "[low, high] as fractions, or null")
SECONDS: Rule = (lambda value: value is None or _is_error_rate(value), "seconds, 0 or more, or null")
OBJECT: Rule = (lambda value: isinstance(value, dict), "an object")

RUN_RULES: dict[str, Rule] = {
    "name": TEXT,
    "recipe": TEXT,
    "model": OBJECT,
    "corpus": TEXT,
    "teachers": (
        lambda value: isinstance(value, list) and all(map(_is_named, value)),
        "a list of names, or of objects with a 'name'",
    ),
    "seed": (lambda value: isinstance(value, int) and not isinstance(value, bool), "a whole number"),
    "scores": (lambda value: isinstance(value, list), "a list"),
}
MODEL_RULES: dict[str, Rule] = {"type": TEXT, "parameters": POSITIVE, "bytes": POSITIVE}
SCORE_RULES: dict[str, Rule] = {
    "split": TEXT,
    "decoder": TEXT,
    "lm": (lambda value: value is None or _is_text(value), "a string or null"),
    "protocol": TEXT,
    "wer": ERROR_RATE,
    "substitutions": COUNT,
    "deletions": COUNT,
    "insertions": COUNT,
    "reference_tokens": POSITIVE,
    "utterances": POSITIVE,
    "wer_ci95": INTERVAL,
    "wra": SHARE,
    "by_speaker": OBJECT,
}
# What a scorer may add; results of older runs lack it.
OPTIONAL_SCORE_RULES: dict[str, Rule] = {
    "cer": ERROR_RATE,
    "wra_first_word": SHARE,
    "distinct_predictions": POSITIVE,
    "empty_predictions": COUNT,
    "commonest_prediction": (_is_commonest, "an object with a 'text' and a 'share' between 0 and 1"),
    "wra_ci95": INTERVAL,
    "wer_ci95_speakers": INTERVAL_OR_NULL,
    "wra_ci95_speakers": INTERVAL_OR_NULL,
    "macro": OBJECT,
    "by_band": OBJECT,
    "by_category": OBJECT,
    "by_seen": OBJECT,
}
MACRO_RULES: dict[str, Rule] = {"wer": ERROR_RATE, "wra": SHARE}
OPTIONAL_RUN_RULES: dict[str, Rule] = {
    "aggregation": (_is_named, "a name, or an object with a 'name'"),  # only where there are teachers to combine
    "training": OBJECT,
    "vocabulary": OBJECT,
}
TRAINING_RULES: dict[str, Rule] = {"epochs": ERROR_RATE, "steps": COUNT, "seconds": SECONDS}
VOCABULARY_RULES: dict[str, Rule] = {"size": POSITIVE, "fingerprint": TEXT}
GROUPS = ("by_speaker", "by_band", "by_category", "by_seen")
SPEAKER_RULES: dict[str, Rule] = {"wer": ERROR_RATE, "wra": SHARE, "reference_tokens": POSITIVE}


def problems_of_results(results: Any) -> list[str]:
    """Everything that is wrong with a results object, one sentence each; empty where it is right.

    Keys beyond the schema's own are kept and not looked at, so that a newer scorer may add figures.

    Args:
        results: what `results.json` holds.

    Returns:
        Sentences that name the place, the value and what was expected.

    Example:
        >>> problems_of_results([])
        ['the file holds a list; expected an object']
    """
    if not isinstance(results, dict):
        return [f"the file holds a {type(results).__name__}; expected an object"]
    if results.get("schema") != SCHEMA:
        return [f"schema is {results.get('schema')!r}; expected {SCHEMA}"]
    problems = _check(results, RUN_RULES, "")
    problems += _check(results, _present(OPTIONAL_RUN_RULES, results), "")
    parts = (("model", MODEL_RULES), ("training", TRAINING_RULES), ("vocabulary", VOCABULARY_RULES))
    for key, rules in parts:
        if isinstance(results.get(key), dict):
            problems += _check(results[key], rules, f"{key}.")
    scores = results.get("scores")
    if isinstance(scores, list):
        for index, score in enumerate(scores):
            problems += problems_of_score(score, f"scores[{index}]")
        problems += _repeated_scores(scores)
    return problems


def problems_of_score(score: Any, where: str = "score") -> list[str]:
    """Everything that is wrong with one entry of `scores`, its sums included.

    Args:
        score: the entry.
        where: how the messages call it.
    """
    if not isinstance(score, dict):
        return [f"{where} is a {type(score).__name__}; expected an object"]
    problems = _check(score, SCORE_RULES | _present(OPTIONAL_SCORE_RULES, score), f"{where}.")
    if isinstance(score.get("macro"), dict):
        problems += _check(score["macro"], MACRO_RULES, f"{where}.macro.")
    for key in GROUPS:
        if isinstance(score.get(key), dict):
            problems += _problems_of_groups(score[key], f"{where}.{key}")
    # Sums of missing or wrong values would only repeat the problems above.
    return problems or _disagreeing_sums(score, where)


def score_key(score: dict[str, Any]) -> tuple[str, str, str | None, str]:
    """What tells two entries of `scores` apart: split, decoder, language model, protocol."""
    return score["split"], score["decoder"], score["lm"], score["protocol"]


def _problems_of_groups(groups: dict[str, Any], where: str) -> list[str]:
    problems = []
    for name, rates in groups.items():
        place = f"{where}[{name!r}]"
        if isinstance(rates, dict):
            problems += _check(rates, SPEAKER_RULES, f"{place}.")
        else:
            problems.append(f"{place} is {rates!r}; expected an object")
    return problems


def _present(rules: dict[str, Rule], value: dict[str, Any]) -> dict[str, Rule]:
    """The rules of optional keys that are there."""
    return {key: rule for key, rule in rules.items() if key in value}


def _check(value: dict[str, Any], rules: dict[str, Rule], prefix: str) -> list[str]:
    problems = []
    for key, (fits, expected) in rules.items():
        if key not in value:
            problems.append(f"{prefix}{key} is missing; expected {expected}")
        elif not fits(value[key]):
            problems.append(f"{prefix}{key} is {value[key]!r}; expected {expected}")
    return problems


def _disagreeing_sums(score: dict[str, Any], where: str) -> list[str]:
    problems = []
    errors = score["substitutions"] + score["deletions"] + score["insertions"]
    rate = errors / score["reference_tokens"]
    if abs(rate - score["wer"]) > RATE_TOLERANCE:
        problems.append(
            f"{where}.wer is {score['wer']!r}; expected (S + D + I) / reference_tokens = "
            f"{errors} / {score['reference_tokens']} = {rate:.6f}"
        )
    for key in GROUPS:
        groups = score.get(key) or {}
        tokens = sum(rates["reference_tokens"] for rates in groups.values())
        if groups and tokens != score["reference_tokens"]:
            problems.append(
                f"{where}.{key} sums to {tokens} reference tokens; expected reference_tokens = "
                f"{score['reference_tokens']}"
            )
    return problems


def _repeated_scores(scores: list[Any]) -> list[str]:
    seen: dict[tuple[Any, ...], int] = {}
    problems = []
    for index, score in enumerate(scores):
        if not isinstance(score, dict):
            continue
        key = tuple(str(score.get(name)) for name in ("split", "decoder", "lm", "protocol"))
        if key in seen:
            problems.append(f"scores[{index}] repeats (split, decoder, lm, protocol) of scores[{seen[key]}]")
        seen.setdefault(key, index)
    return problems
