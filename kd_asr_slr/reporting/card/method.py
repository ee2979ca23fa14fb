"""What a model is, how it was distilled and from whom, as a model card says it."""

from __future__ import annotations

from typing import Any

from kd_asr_slr.reporting.card.context import CardContext
from kd_asr_slr.reporting.card.usage import linked_teacher
from kd_asr_slr.reporting.tables import NOTHING, aggregation_of, teacher_names
from kd_asr_slr.stages import describe_stage

# Settings of distillation the card names, in this order; only those that the run's losses use.
WEIGHTS = (("soft_losses", "alpha"), ("hard_losses", "beta"), ("feature_losses", "gamma"))
# Option that weighs a loss alone -> the loss, and what it is on.
OWN_WEIGHTS = {
    "auxiliary_ctc_weight": ("auxiliary_ctc", "of the student's auxiliary classifier"),
    "auxiliary_kd_weight": ("auxiliary_kd", "of the student's auxiliary classifier"),
    "consistency_weight": ("consistency", "between two masked views"),
    "blank_mass_weight": ("blank_mass", "on soft targets"),
    "pseudo_label_weight": ("pseudo_labels", "on soft targets"),
    "sequence_kd_weight": ("sequence_kd", "on soft targets"),
}
LOSS_KINDS = {"soft_losses": "soft targets", "hard_losses": "labels", "feature_losses": "hidden states"}


def what_it_is(results: dict[str, Any], context: CardContext) -> str:
    """One sentence, and the sizes."""
    kinds = {"speech": "speech recogniser", "sign": "sign language recogniser (glosses)"}
    kind = kinds.get(context.modality or "")
    model = results["model"]
    names = teacher_names(results)
    origin = f"distilled from {_count(names, 'teacher')}" if names else "trained on labels only"
    return (
        f"A {kind or 'sequence recogniser'} of type `{model['type']}`, {origin} on the corpus {results['corpus']}. "
        f"{model['parameters']:,} parameters, {model['bytes'] / 1e6:.2f} MB of weights, seed {results['seed']}."
    )


def transductive(results: dict[str, Any]) -> list[str]:
    """The warning above everything else, for runs that heard the speakers they are tested on."""
    if not results.get("untranscribed", {}).get("transductive"):
        return []
    return [
        "**TRANSDUCTIVE: in training this student heard recordings, without their text, of speakers that it is tested "
        "on. Its scores are not those on unheard speakers: compare them with other transductive runs only.**"
    ]


def how(results: dict[str, Any], config: dict[str, Any], context: CardContext) -> str:
    """Teachers, losses and schedule as a list."""
    names = teacher_names(results)
    lines = []
    if names:
        lines.append(f"- Teachers: {', '.join(linked_teacher(name, context) for name in names)}.")
        aggregation = aggregation_of(results, config)
        if len(names) > 1 and aggregation:
            lines.append(f"- Aggregation of the teachers: `{aggregation}`.")
        if config.get("temperature") is not None:
            lines.append(f"- Temperature: {_temperature(config)}.")
    lines += [_losses(config, bool(names))] if config.get("hard_losses") else []
    if names and config.get("frame_selection") and "ctc_kd" in (config.get("soft_losses") or []):
        lines.append(f"- Frames of CTC-KD: `{config['frame_selection']}`{_threshold(config)}.")
    if results.get("untranscribed"):
        lines.append(f"- Recordings without text: {results['untranscribed']['utterances']:,}; soft targets only.")
    lines += _schedule(config)
    if config.get("held_out_speakers"):
        lines.append(f"- Held-out speakers: {', '.join(config['held_out_speakers'])}.")
    lines.append("- Every setting is in `resolved_config.yaml`.")
    return "\n".join(lines)


def _schedule(config: dict[str, Any]) -> list[str]:
    rate = [] if config.get("stages") else [("learning_rate", "Learning rate")]
    shown = [("num_train_epochs", "Epochs at most"), *rate]
    lines = [f"- {label}: {config[key]:g}." for key, label in shown if config.get(key) is not None]
    if config.get("stages"):
        lines.append(f"- Stages: {', then '.join(describe_stage(stage) for stage in config['stages'])}.")
    if config.get("freeze_modules"):
        lines.append(f"- Frozen all along: {', '.join(config['freeze_modules'])}.")
    if config.get("curriculum", "none") != "none":
        lines.append(
            f"- Curriculum: `{config['curriculum']}`, from the easiest {100 * config['curriculum_start']:g} % of the "
            f"utterances to all of them from epoch {config['curriculum_epochs']} on."
        )
    return lines


def _losses(config: dict[str, Any], with_teachers: bool) -> str:
    parts = []
    for losses, weight in WEIGHTS:
        if not config.get(losses) or (losses != "hard_losses" and not with_teachers):
            continue
        used = " + ".join(f"`{name}`" for name in config[losses])
        share = config.get(weight)
        if share == 0:
            continue
        parts.append(f"{used} on {LOSS_KINDS[losses]}" + (f" (weight {share:g})" if with_teachers and share else ""))
    for option, (name, what) in OWN_WEIGHTS.items():
        if config.get(option):
            parts.append(f"`{name}` {what} (weight {config[option]:g})")
    return f"- Losses: {', '.join(parts)}."


def _temperature(config: dict[str, Any]) -> str:
    text = f"{config['temperature']:g}"
    for epoch, value in (config.get("temperature_milestones") or {}).items():
        text += f", {value:g} from epoch {epoch}"
    return f"{text} in training, 1 at evaluation"


def _threshold(config: dict[str, Any]) -> str:
    if config["frame_selection"] == "threshold" and config.get("blank_threshold") is not None:
        return f" (blank probability below {config['blank_threshold']:g})"
    return ""


def _count(names: list[str], noun: str) -> str:
    return f"{len(names)} {noun}{'' if len(names) == 1 else 's'}" if names else NOTHING
