"""What the teachers say together, in figures: for the log before the first step, and for results.json."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel

from kd_asr_slr.arguments import TeacherArguments
from kd_asr_slr.decoding.greedy import collapse
from kd_asr_slr.models.forward import run_ctc
from kd_asr_slr.outputs import CTCOutput, TeacherSignal, given
from kd_asr_slr.reporting.tables import markdown_table
from kd_asr_slr.scoring.predictions import Prediction
from kd_asr_slr.teachers.batches import batch_to
from kd_asr_slr.teachers.cached import CachedTeachers
from kd_asr_slr.teachers.diagnosis import diagnose, transcript_loss
from kd_asr_slr.teachers.pool import TeacherPool
from kd_asr_slr.teachers.spikes import spike_offsets, summary
from kd_asr_slr.training.evaluation import prediction_of, rates
from kd_asr_slr.training.teaching import load_teacher
from kd_asr_slr.training.trainer import DistillationTrainer

logger = logging.getLogger(__name__)

ALIGNED_UTTERANCES = 64  # of those listened to; an alignment costs milliseconds

# Key in `diagnostics`, what the table calls it, and its format.
SHOWN = (
    ("teachers_per_utterance", "teachers an utterance, on average", "{:.2f}"),
    ("teacher_agreement", "frames on which two teachers agree", "{:.1%}"),
    ("uniform_mean_mass", "mass of the unnormalised mean", "{:.3f}"),
    ("blank_ratio", "frames that are blank", "{:.1%}"),
    ("transcript_loss", "transcript loss, nats a label", "{:.3f}"),
    ("wer", "WER of its greedy decode", "{:.1%}"),
    ("spike_offset_mean", "spike offset, mean frames", "{:+.2f}"),
    ("spike_offset_median", "spike offset, median frames", "{:+.2f}"),
    ("spike_offset_size", "spike offset, mean size in frames", "{:.2f}"),
)


@dataclass(frozen=True)
class Listener:
    """A trained network whose spikes are compared with the teachers'.

    Attributes:
        name: "student", or the baseline's folder.
        hear: a batch on any device -> its output.
        frame_seconds: seconds between two of its frames.
        views: processors of features that it needs in a batch beside the student's, by fingerprint.
    """

    name: str
    hear: Any
    frame_seconds: float
    views: Mapping[str, Any] = field(default_factory=dict)


def listener_for(trainer: DistillationTrainer, processor: Any, teaching: TeacherArguments | None) -> Listener | None:
    """The student where it starts from a trained run, else the baseline run; None where there is neither.

    The spikes of an untrained student mean nothing.
    """
    if getattr(trainer.model.config, "_name_or_path", ""):
        return Listener("student", lambda batch: _hear_student(trainer.model, batch), trainer.frame_seconds)
    if teaching is None:
        return None
    baseline = teaching.baseline_run
    if not baseline or not (Path(baseline) / "config.json").is_file():
        return None
    network = load_teacher(baseline, [], teaching, processor).to(trainer.model.device)
    teachers = given(trainer.teachers, "teachers")
    if network.tokens != list(teachers.tokens) or network.blank_id != teachers.blank_id:
        logger.info("the baseline has other labels than the teachers: their spikes are not compared")
        return None
    views = {network.features: network.processor} if network.needs_view else {}
    return Listener(
        f"baseline {baseline}", lambda batch: network(batch_to(batch, network.device)), network.frame_seconds, views
    )


def _hear_student(model: PreTrainedModel, batch: dict[str, Any]) -> CTCOutput:
    training = model.training
    try:
        return run_ctc(model.eval(), batch_to(batch, model.device))
    finally:
        model.train(training)


@torch.no_grad()
def measure_target(
    teachers: TeacherPool | CachedTeachers,
    heard: Sequence[dict[str, Any]],
    rows: Dataset,
    processor: Any,
    protocol: str,
    listener: Listener | None = None,
) -> tuple[dict[str, Any], list[Prediction]]:
    """Listen to the combined target on a few batches.

    Args:
        teachers: live or cached.
        heard: collated batches, of the first utterances of `rows` in their order.
        rows: of the corpus.
        processor: the student's.
        protocol: of the WER.
        listener: whose spikes are compared with the target's; without one, those of live teachers with each other.

    Returns:
        `utterances`, `frames`, `blank_ratio`, `wer` and `wra` of the greedy decode, `transcript_loss` (CTC loss in nats
        a label), with spikes `spike_offset_mean`, `_median` and `_size` (in frames of the teachers, positive where the
        second of `spikes_of` is later), with live teachers what `teachers.diagnosis.diagnose` gives; and the
        predictions that were scored.
    """
    frames, blanks, loss, labels = 0, 0, 0.0, 0
    predictions: list[Prediction] = []
    offsets: list[float] = []
    for batch in heard:
        signal = teachers.signal(batch_to(batch, teachers.device) if isinstance(teachers, TeacherPool) else batch)
        room = max(ALIGNED_UTTERANCES - len(predictions), 0)
        offsets += _offsets(teachers, batch, signal, listener, room)
        summed, counted = transcript_loss(signal, batch["labels"], processor.blank_id)
        loss, labels = loss + summed, labels + counted
        for row, length in enumerate((signal.lengths * (signal.weight > 0)).tolist()):
            best = signal.log_probs[row, :length].argmax(-1).cpu().numpy()
            frames, blanks = frames + length, blanks + int((best == processor.blank_id).sum())
            text = processor.decode_labels(collapse(best, processor.blank_id))
            predictions.append(prediction_of(rows[len(predictions)], text))
    numbers: dict[str, Any] = diagnose(teachers, heard) if isinstance(teachers, TeacherPool) else {}
    numbers |= {"utterances": len(predictions), "frames": frames, "blank_ratio": blanks / max(frames, 1)}
    numbers |= rates(predictions, protocol)
    if labels:
        numbers["transcript_loss"] = loss / labels
    if offsets:
        against = ["target", listener.name] if listener is not None else ["teacher", "teacher"]
        numbers |= {**summary(offsets), "spikes_of": against}
    return numbers, predictions


def _offsets(
    teachers: Any, batch: dict[str, Any], signal: TeacherSignal, listener: Listener | None, room: int
) -> list[float]:
    """Spike offsets in the first `room` utterances of a batch."""
    if room == 0:
        return []
    if listener is not None:
        output = listener.hear(batch)
        log_probs, lengths = output.logits.float().log_softmax(-1), output.logit_lengths.tolist()
        lengths = [length * int(weight > 0) for length, weight in zip(lengths, signal.weight.tolist(), strict=True)]
        pairs = [((signal.log_probs, signal.lengths.tolist()), (log_probs, lengths))]
        seconds = teachers.frame_seconds, listener.frame_seconds
    elif isinstance(teachers, TeacherPool) and len(teachers.everyone) > 1:
        outputs = [teacher(batch_to(batch, teachers.device)) for teacher in teachers.everyone]
        said = [(output.logits.float().log_softmax(-1), output.logit_lengths.tolist()) for output in outputs]
        pairs = [(one, other) for k, one in enumerate(said) for other in said[k + 1 :]]
        seconds = teachers.frame_seconds, teachers.frame_seconds
    else:
        return []
    found: list[float] = []
    for row, labels in enumerate(_labels_of(batch)[:room]):
        for (one, frames), (other, others) in pairs:
            if labels and frames[row] and others[row]:
                ends = one[row, : frames[row]], other[row, : others[row]]
                found += spike_offsets(*ends, labels, teachers.blank_id, *seconds)
    return found


def _labels_of(batch: dict[str, Any]) -> list[list[int]]:
    return [[label for label in row if label >= 0] for row in batch["labels"].tolist()]


def diagnosis_table(numbers: Mapping[str, Any]) -> str:
    """The figures of `measure_target` as a table.

    Example:
        >>> print(diagnosis_table({"blank_ratio": 0.5, "wer": 0.25}).splitlines()[2])
        | frames that are blank    | 50.0% |
    """
    lines = [[name, shape.format(numbers[key])] for key, name, shape in SHOWN if key in numbers]
    table = markdown_table(["combined target", "value"], lines, [False, True])
    if "spikes_of" not in numbers:
        return table
    first, second = numbers["spikes_of"]
    pair = f"{second}, later than the target" if first == "target" else "one teacher against another"
    return f"{table}\nspike offset: {pair}"
