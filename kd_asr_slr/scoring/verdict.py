"""What a word recognition accuracy on held-out speakers means, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# More of the outputs alike than this is a collapse, whatever the accuracy.
COLLAPSED_SHARE = 0.5
# Differences of WRA below this are not worth a word: seeds alone differ so much.
NOISE = 0.05
# Speakers that were heard must fare so much better before the new speaker is what is hard.
GAP = 0.1
# Longer references are sentences, of which hardly one is right as a whole: the bands are those of isolated words.
LONGEST_WORDS = 1.5


@dataclass(frozen=True)
class Band:
    """One range of WRA.

    Args:
        lowest: WRA from which it counts.
        name: how it is written.
        meaning: what such a value says.
        advice: what to do, one sentence each.
    """

    lowest: float
    name: str
    meaning: str
    advice: tuple[str, ...]


COLLAPSE_ADVICE = (
    "Read the preflight of the run: where the combined teacher decodes to blanks or to a few words, the student learns "
    "just that; set `--aggregation route` or gate instead of a mean over teachers that do not know the speaker.",
    "Keep a label loss: `--hard_losses ctc` with `--beta` well above 0 (0.3 or more); a run on soft targets alone "
    "follows its teachers into the collapse.",
    "Keep the labels few: `--tokenizer_kind words` on the corpus' own list, or characters; thousands of pieces for a "
    "few hundred words leave most of them unseen.",
    "Against blanks everywhere: `--frame_selection` threshold or symmetric, so that non-blank frames decide.",
    "Check the data: train and test blocks must not be mixed up, and teacher and student must hear the same recordings "
    "(recipes/prepare_data.py), and the student must be able to learn five utterances by heart (recipes/overfit.py).",
)

BANDS = (
    Band(
        0.7,
        "above 70 %",
        "it recognises speakers it has never heard",
        (
            "Show that it is no luck of one speaker or seed: leave one speaker out over all, 3 seeds, "
            "recipes/compare.py --folds --baseline ROW.",
            "Credit distillation only where it beats the same student on labels alone, trained to its plateau with "
            "the compute that the teachers cost.",
            "Look at by_seen and by_band in results.json: a good mean can hide unseen words or severe speakers.",
        ),
    ),
    Band(
        0.5,
        "50 to 70 %",
        "usable where the words are known, not yet for free speech",
        (
            "Train to the plateau first: more `--num_train_epochs`, until the WER on dev no longer falls.",
            "Let better teachers teach: a generalist that is larger or trained with more `--augmentation`; teachers "
            "hardly better than the student teach nothing.",
            "Look at the worst speakers in by_speaker; their words in predictions-*.jsonl show what is confused.",
        ),
    ),
    Band(
        0.2,
        "20 to 50 %",
        "it has learnt something of the words, not enough for these speakers",
        (
            "More variety of speakers: `--augmentation` with speed, noise and gain; recordings of more speakers.",
            "Teachers that fit: `--aggregation gate`, or a `--generalist` with a `--generalist_weight`, instead of a "
            "plain mean over speaker teachers.",
            "Train longer before distilling otherwise: more `--num_train_epochs`, then `--temperature` and `--alpha`.",
        ),
    ),
    Band(0.0, "below 20 %", "it has not learnt the task", COLLAPSE_ADVICE),
)


def verdict_lines(
    score: Mapping[str, Any], others: Mapping[str, float] | None = None, heard: float | None = None
) -> list[str]:
    """A verdict on one entry of `scores` of held-out speakers: what its WRA means, then what to do.

    Args:
        score: the entry, as `score.score_predictions` makes it.
        others: WRA of other systems on the very same utterances, by name: the generalist, the teachers. They tell a
            speaker who is hard for everybody from a distillation that went wrong.
        heard: WRA of the same run on speakers that it has heard (the dev split), where known.

    Returns:
        Lines for people; empty for sentences, which have no such bands.

    Example:
        >>> verdict_lines({"wra": 0.04, "utterances": 50, "reference_tokens": 50})[0]
        'Verdict: WRA 4.0 % on held-out speakers, below 20 %: it has not learnt the task.'
    """
    if score["reference_tokens"] > LONGEST_WORDS * score["utterances"]:
        return []
    band = next(band for band in BANDS if score["wra"] >= band.lowest)
    collapse = _collapse(score)
    lines = [f"Verdict: WRA {_percent(score['wra'])} on held-out speakers, {band.name}: {band.meaning}."]
    lines += [collapse] if collapse else []
    lines += _beside_heard(score["wra"], heard)
    lines += _beside_others(score["wra"], others or {}, heard is None or heard > score["wra"] + GAP)
    return lines + [f"- {sentence}" for sentence in (COLLAPSE_ADVICE if collapse else band.advice)]


def _collapse(score: Mapping[str, Any]) -> str:
    """A sentence where most outputs are alike; empty where they are not, or are as the references are."""
    commonest = score.get("commonest_prediction")
    if not commonest or commonest["share"] <= COLLAPSED_SHARE or score["wra"] >= COLLAPSED_SHARE:
        return ""
    text = f"'{commonest['text']}'" if commonest["text"] else "empty"
    return (
        f"Collapse: {_percent(commonest['share'])} of the outputs are {text}, "
        f"{score['distinct_predictions']} different outputs in {score['utterances']} utterances."
    )


def _beside_heard(wra: float, heard: float | None) -> list[str]:
    """Whether the speaker is what is hard, or the words are not learnt yet."""
    if heard is None:
        return []
    said = f"On speakers that it has heard (dev) it reaches {_percent(heard)}"
    if heard > wra + GAP:
        return [f"{said}: the words are learnt, the speaker is what is new."]
    if wra >= BANDS[0].lowest:
        return [f"{said}."]
    return [
        f"{said}, hardly more: it is not the speaker; train to the plateau (`--num_train_epochs`, `--learning_rate`), "
        "or take a larger student (`--model_options`), before anything else."
    ]


def _beside_others(wra: float, others: Mapping[str, float], speaker_is_hard: bool) -> list[str]:
    """Domain shift or a broken method, where the teachers' own values are known; how to get them where not."""
    if not others:
        return [] if wra >= BANDS[1].lowest else [
            "To tell domain shift from a broken method, score the generalist and every speaker's teacher on the same "
            "utterances (recipes/score.py --run TEACHER): as low as this, the speaker is unlike those heard; far "
            "better, the distillation loses what they know."
        ]  # fmt: skip
    best = max(others, key=lambda name: others[name])
    known = ", ".join(f"{name} {_percent(rate)}" for name, rate in others.items())
    said = f"On the same utterances: {known}."
    if others[best] > wra + NOISE:
        return [said, f"{best} is far better: the method loses what its teachers know; look there before the data."]
    if wra > others[best] + NOISE:
        return [said, "The student is better than all of them; more of the same teachers will not help it further."]
    if wra >= BANDS[0].lowest:
        return [said]
    level = "The student is at its teachers' level: the method is not broken"
    if speaker_is_hard:
        return [said, f"{level}, it is domain shift; speech of more and other speakers helps, or better teachers."]
    return [said, f"{level}, they know no more; it takes better teachers."]


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


def held_out(config: Mapping[str, Any], score: Mapping[str, Any]) -> bool:
    """Whether an entry of `scores` is about speakers that the run never trained on.

    Args:
        config: the run's resolved configuration.
        score: the entry.
    """
    if config.get("held_out_as_teacher"):  # a debug run: its teachers know the speaker
        return False
    speakers: Sequence[str] = config.get("held_out_speakers") or ()
    return bool(speakers) and score["split"] == config.get("test_split", "test")
