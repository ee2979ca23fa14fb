"""The model card of a run (README.md), made from `results.json` and `resolved_config.yaml` only.

The verdict on held-out speakers also reads the results of the run's teachers, where these are run folders.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd_asr_slr.files import write_text
from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.reporting.tables import (
    NOTHING,
    aggregation_of,
    markdown_table,
    percent,
    shown_counts,
    shown_interval,
    teacher_names,
)
from kd_asr_slr.reporting.verdicts import verdict_of
from kd_asr_slr.stages import describe_stage

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

LIBRARY = "kd_asr_slr"

TASKS = {"speech": "automatic-speech-recognition", "sign": "sign-language-recognition"}
# The hub knows a pipeline for speech; it has none for sign language.
PIPELINES = {"speech": "automatic-speech-recognition"}
FEATURES = {"log_mel": "speech", "waveform": "speech", "raw": "sign", "mediapipe_holistic": "sign"}
CORPORA = {"synthetic_speech": "speech", "synthetic_sign": "sign"}

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


def write_model_card(run: RunFolder | str | Path) -> Path:
    """Write the model card into the run folder as README.md.

    Args:
        run: a run folder with `results.json` and `resolved_config.yaml`.

    Returns:
        The file.

    Raises:
        UserError: where one of the two is missing or damaged.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder(run)
    card = build_model_card(folder.read_results(), folder.config(), verdict_of(folder))
    return write_text(folder.path / "README.md", str(card))


def build_model_card(results: dict[str, Any], config: dict[str, Any], verdict: Sequence[str] = ()) -> ModelCard:
    """The card as huggingface_hub's `ModelCard`, its metadata (`model-index` included) as `card.data`.

    Args:
        results: a checked results object (`RunFolder.read_results`).
        config: the resolved config of the run.
        verdict: lines on the held-out speakers (`verdicts.verdict_of`), if any.
    """
    from huggingface_hub import ModelCard

    sections = [
        f"# {results['name']}",
        _what_it_is(results, config),
        *_transductive(results),
        "## How it was trained" if not results["teachers"] else "## How it was distilled",
        _how(results, config),
        "## Scores",
        _scores(results),
        *_speakers(results),
        *(["### Verdict", _verdict(verdict)] if verdict else []),
        "## How to load it",
        _loading(),
        "## Limits",
        _limits(results),
    ]
    return ModelCard(f"---\n{_metadata(results, config).to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n")


def modality_of(config: dict[str, Any]) -> str | None:
    """ "speech" or "sign", by the run's features or corpus; None where the config does not say.

    Args:
        config: the resolved config of the run.
    """
    return FEATURES.get(str(config.get("features"))) or CORPORA.get(str(config.get("corpus")))


# -- metadata --------------------------------------------------------------------------------------------------


def _metadata(results: dict[str, Any], config: dict[str, Any]) -> ModelCardData:
    from huggingface_hub import ModelCardData

    modality = modality_of(config)
    tags = ["ctc", results["model"]["type"]]
    tags += ["knowledge-distillation"] if results["teachers"] else []
    tags += [TASKS[modality]] if modality else []
    return ModelCardData(
        model_name=results["name"],
        library_name=LIBRARY,
        pipeline_tag=PIPELINES.get(modality or ""),
        tags=tags,
        metrics=["wer"],
        eval_results=_eval_results(results, modality) or None,
    )


def _eval_results(results: dict[str, Any], modality: str | None) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=TASKS.get(modality or "", "sequence-recognition"),
            dataset_type=re.sub(r"[^\w./-]+", "-", results["corpus"]),
            dataset_name=results["corpus"],
            dataset_split=score["split"],
            metric_type=metric,
            metric_name=f"{metric.upper()} % ({_decoding(score)}, {score['protocol']})",
            metric_value=round(100 * score[metric], 2),
        )
        for score in results["scores"]
        for metric in ("wer", "wra")
    ]


# -- sections --------------------------------------------------------------------------------------------------


def _what_it_is(results: dict[str, Any], config: dict[str, Any]) -> str:
    kind = {"speech": "speech recogniser", "sign": "sign language recogniser (glosses)"}.get(modality_of(config) or "")
    model = results["model"]
    names = teacher_names(results)
    origin = f"distilled from {_count(names, 'teacher')}" if names else "trained on labels only"
    return (
        f"A {kind or 'sequence recogniser'} of type `{model['type']}`, {origin} on the corpus {results['corpus']}. "
        f"{model['parameters']:,} parameters, {model['bytes'] / 1e6:.2f} MB of weights, seed {results['seed']}."
    )


def _transductive(results: dict[str, Any]) -> list[str]:
    if not results.get("untranscribed", {}).get("transductive"):
        return []
    return [
        "**TRANSDUCTIVE: in training this student heard recordings, without their text, of speakers that it is tested "
        "on. Its scores are not those on unheard speakers: compare them with other transductive runs only.**"
    ]


def _how(results: dict[str, Any], config: dict[str, Any]) -> str:
    names = teacher_names(results)
    lines = []
    if names:
        lines.append(f"- Teachers: {', '.join(f'`{name}`' for name in names)}.")
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


def _scores(results: dict[str, Any]) -> str:
    if not results["scores"]:
        return "This run has not been scored yet."
    header = ["split", "decoder", "protocol", "WER %", "95 % interval", "WRA %", "S / D / I", "tokens", "utterances"]
    cells = [
        [score["split"], _decoding(score), score["protocol"], percent(score["wer"]), shown_interval(score)]
        + [percent(score["wra"]), shown_counts(score), f"{score['reference_tokens']:,}", f"{score['utterances']:,}"]
        for score in results["scores"]
    ]
    protocols = ", ".join(dict.fromkeys(f"`{score['protocol']}`" for score in results["scores"]))
    text = (
        f"Scored with protocol {protocols}. WER = (S + D + I) / reference tokens, summed over the split; the interval "
        "is a bootstrap over utterances; WRA is the share of utterances recognised without an error."
    )
    return text + "\n\n" + markdown_table(header, cells, [False] * 3 + [True] * 6)


def _speakers(results: dict[str, Any]) -> list[str]:
    scores = [score for score in results["scores"] if score["by_speaker"]]
    if not scores:
        return []
    header = ["split", "decoder", "speaker", "WER %", "WRA %", "tokens"]
    cells = [
        [score["split"], _decoding(score), speaker, percent(rates["wer"]), percent(rates["wra"])]
        + [f"{rates['reference_tokens']:,}"]
        for score in scores
        for speaker, rates in sorted(score["by_speaker"].items())
    ]
    return ["### By speaker", markdown_table(header, cells, [False] * 3 + [True] * 3)]


def _verdict(lines: Sequence[str]) -> str:
    """What it means as a paragraph, what to do as a list."""
    said = " ".join(line for line in lines if not line.startswith("- "))
    return "\n".join([said, "", *(line for line in lines if line.startswith("- "))])


def _loading() -> str:
    return (
        f"With `{LIBRARY}` installed, and `FOLDER` the folder (or hub name) of this card:\n\n"
        "```python\n"
        "from kd_asr_slr.models.auto import load_model\n"
        "from kd_asr_slr.processing.auto import load_processor\n"
        'model, processor = load_model("FOLDER"), load_processor("FOLDER")\n'
        "```"
    )


def _limits(results: dict[str, Any]) -> str:
    lines = [
        f"- The scores hold for the corpus {results['corpus']}, its splits and the protocol named above, and for no "
        "other recording conditions, speakers or label sets.",
        "- It writes labels of its own vocabulary only; anything else is recognised as one of them or not at all.",
        f"- One run with seed {results['seed']}: the interval covers the choice of utterances, not that of the seed.",
    ]
    tokens = min((score["reference_tokens"] for score in results["scores"]), default=None)
    if tokens is not None and tokens < 1000:
        lines.append(f"- A small test: {tokens} reference tokens; differences of a few points are chance.")
    if results["corpus"].startswith("synthetic"):
        lines.append("- The corpus is synthetic: a test of the method, not a recogniser for people.")
    return "\n".join(lines)


def _decoding(score: dict[str, Any]) -> str:
    return f"{score['decoder']} + {Path(score['lm']).name}" if score["lm"] else score["decoder"]


def _count(names: list[str], noun: str) -> str:
    return f"{len(names)} {noun}{'' if len(names) == 1 else 's'}" if names else NOTHING
