"""One small batch with everything a loss may need, and brute-force references in plain numpy."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kd_asr_slr.losses.base import Loss, LossContext
from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.losses.table import LOSSES
from kd_asr_slr.outputs import HybridOutput, TeacherSignal

BLANK, EOS, VOCABULARY, WIDTH = 0, 2, 5, 6
LENGTHS = [5, 3, 4]
LABELS = [[3, 3], [4], [3, 4, 1]]
LAYER_MAP = {0: 1, 1: 0}


@dataclass
class Scene:
    """A student's output, a teacher's signal and their batch."""

    output: HybridOutput
    signal: TeacherSignal
    batch: dict[str, Any]

    def student_leaves(self) -> dict[str, torch.Tensor]:
        """The student's tensors by name."""
        names = ("logits", "decoder_logits", "auxiliary_logits", "other_view_logits")
        leaves = {name: getattr(self.output, name) for name in names}
        return leaves | {f"hidden_{layer}": state for layer, state in enumerate(self.output.hidden_states)}


def registered(name: str) -> type[Loss]:
    """The loss of a case: a name in the table, or one with a way to match frames behind it, "ctc_kd:shift"."""
    return LOSSES[name.partition(":")[0]]


def build_loss(name: str, **options: Any) -> Loss:
    """The loss of a case on the scene's vocabulary."""
    defaults = {"layer_map": LAYER_MAP, "pseudo_label_confidence": 0.01, "match_window": 1}
    if ":" in name:
        defaults["rate_matching"] = name.partition(":")[2]
    settings = LossSettings(**(defaults | options))
    return registered(name)(settings, LossContext(blank_id=BLANK, eos_id=EOS, frame_seconds=0.04))


def make_scene(
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    padding: int = 2,
    same: bool = False,
    garbage: float | None = None,
    lengths: list[int] | None = None,
    labels: list[list[int]] | None = None,
    weight: list[float] | None = None,
) -> Scene:
    """A batch of three utterances whose valid part depends on `seed` only.

    Args:
        seed: of the student's and the teacher's values.
        dtype: of the student's tensors.
        padding: positions beyond the longest utterance.
        same: the teacher says what the student says.
        garbage: value of every padded position on both sides; None pads with 0.
        lengths, labels, weight: instead of the usual ones.
    """
    lengths = LENGTHS if lengths is None else lengths
    labels = LABELS if labels is None else labels
    decoder = [len(row) + 1 for row in labels]
    fill = 0.0 if garbage is None else garbage
    student = _side(seed, lengths, decoder, padding, fill)
    teacher = student if same else _side(seed + 1, lengths, decoder, padding + 1, fill)
    output = HybridOutput(
        logits=_leaf(student["frames"], dtype),
        logit_lengths=torch.tensor(lengths),
        hidden_states=tuple(_leaf(student[f"hidden_{layer}"], dtype) for layer in (0, 1)),
        decoder_logits=_leaf(student["tokens"], dtype),
        auxiliary_logits=_leaf(student["auxiliary"], dtype),
        other_view_logits=_leaf(student["other_view"], dtype),
        decoder_lengths=torch.tensor(decoder),
    )
    # The teacher's layers are crossed by LAYER_MAP.
    crossed = {LAYER_MAP[layer]: teacher[f"hidden_{layer}"].to(dtype) for layer in (0, 1)}
    exact = torch.promote_types(dtype, torch.float32)
    signal = TeacherSignal(
        log_probs=teacher["frames"].to(dtype).to(exact).log_softmax(-1),
        lengths=torch.tensor(lengths),
        vocabulary="scene",
        frame_seconds=0.04,
        weight=torch.tensor([1.0] * len(lengths) if weight is None else weight),
        decoder_log_probs=teacher["tokens"].to(dtype).to(exact).log_softmax(-1),
        decoder_lengths=torch.tensor(decoder),
        hidden_states=crossed,
    )
    width = max(map(len, labels)) + padding
    padded = torch.full((len(labels), width), -100)
    for row, items in enumerate(labels):
        padded[row, : len(items)] = torch.tensor(items, dtype=torch.long)
    return Scene(output, signal, {"labels": padded, "ids": [f"utt{row}" for row in range(len(labels))]})


def _side(seed: int, lengths: list[int], decoder: list[int], padding: int, fill: float) -> dict[str, torch.Tensor]:
    """Random values drawn utterance by utterance, so that padding does not change them."""
    sizes = {
        "frames": (lengths, VOCABULARY),
        "tokens": (decoder, VOCABULARY),
        "hidden_0": (lengths, WIDTH),
        "hidden_1": (lengths, WIDTH),
        "auxiliary": (lengths, VOCABULARY),
        "other_view": (lengths, VOCABULARY),
    }
    side = {}
    for number, (name, (sides, width)) in enumerate(sizes.items()):
        generator = torch.Generator().manual_seed(100 * seed + number)
        padded = torch.full((len(sides), max(sides) + padding, width), fill, dtype=torch.float64)
        for row, length in enumerate(sides):
            padded[row, :length] = 2 * torch.randn(length, width, generator=generator, dtype=torch.float64)
        side[name] = padded
    return side


def _leaf(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.to(dtype).clone().requires_grad_()


# --- references: loops and definitions, nothing shared with the package ---


def softmax(row: np.ndarray) -> np.ndarray:
    exponential = np.exp(row - row.max())
    return exponential / exponential.sum()


def reference_kl(student: np.ndarray, teacher_log_probs: np.ndarray, temperature: float) -> float:
    """KL of two rows by its definition: powers 1/T of probabilities, renormalised."""
    p = np.exp(teacher_log_probs) ** (1 / temperature)
    q = softmax(student) ** (1 / temperature)
    p, q = p / p.sum(), q / q.sum()
    return temperature**2 * sum(pv * (np.log(pv) - np.log(qv)) for pv, qv in zip(p, q, strict=True) if pv > 0)


def reference_ctc(log_probs: np.ndarray, labels: list[int], blank: int) -> float:
    """-log of the summed probability of every path that collapses to the labels."""
    total = 0.0
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        collapsed = [symbol for symbol, _ in itertools.groupby(path) if symbol != blank]
        if collapsed == labels:
            total += np.exp(sum(log_probs[t, symbol] for t, symbol in enumerate(path)))
    return -np.log(total)


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def _ctc_kd(scene: Scene, temperature: float) -> list[float]:
    student, teacher = _numpy(scene.output.logits), _numpy(scene.signal.log_probs)
    return [
        np.mean([reference_kl(student[row, t], teacher[row, t], temperature) for t in range(length)])
        for row, length in enumerate(LENGTHS)
    ]


def _blank_mass(scene: Scene, temperature: float) -> list[float]:
    """Two numbers a frame: the blank's probability at the temperature, and the rest."""

    def split(row: np.ndarray) -> np.ndarray:
        blank = softmax(row / temperature)[BLANK]
        return np.array([blank, 1 - blank])

    student, teacher = _numpy(scene.output.logits), _numpy(scene.signal.log_probs)
    return [
        temperature**2
        * np.mean(
            [np.sum(p * np.log(p / q)) for p, q in ((split(teacher[row, t]), split(student[row, t])) for t in range(n))]
        )
        for row, n in enumerate(LENGTHS)
    ]


def shift_by_brute_force(student: np.ndarray, teacher: np.ndarray, window: int, temperature: float) -> int:
    """The shift s with the least mean divergence of teacher frame t and student frame t + s."""
    means = {}
    for shift in range(-window, window + 1):
        pairs = [(t + shift, t) for t in range(len(teacher)) if 0 <= t + shift < len(student)]
        means[shift] = np.mean([reference_kl(student[ours], teacher[theirs], temperature) for ours, theirs in pairs])
    return min(means, key=means.get)


def _shifted(
    reference: Callable[[np.ndarray, np.ndarray, float], float], search_temperature: float | None = None
) -> Callable[[Scene, float], list[float]]:
    """A reference of frames becomes one of the pairs under the best shift of each utterance."""

    def values(scene: Scene, temperature: float) -> list[float]:
        found = []
        for row, length in enumerate(LENGTHS):
            student = _numpy(scene.output.logits)[row, :length]
            teacher = _numpy(scene.signal.log_probs)[row, :length]
            shift = shift_by_brute_force(student, teacher, 1, search_temperature or temperature)
            pairs = [(t + shift, t) for t in range(length) if 0 <= t + shift < length]
            found.append(np.mean([reference(student[ours], teacher[theirs], temperature) for ours, theirs in pairs]))
        return found

    return values


def best_path_by_enumeration(scores: np.ndarray, labels: list[int], blank: int) -> list[int]:
    """The label position (or -1) of every frame on the best of all paths that collapse to the labels."""
    best, best_score = None, -np.inf
    for path in itertools.product(sorted({blank, *labels}), repeat=len(scores)):
        score = sum(scores[t, symbol] for t, symbol in enumerate(path))
        if score > best_score and [symbol for symbol, _ in itertools.groupby(path) if symbol != blank] == labels:
            best, best_score = path, score
    starts = [symbol != blank and (t == 0 or best[t - 1] != symbol) for t, symbol in enumerate(best)]
    return [int(np.sum(starts[: t + 1])) - 1 if symbol != blank else -1 for t, symbol in enumerate(best)]


def _of_labels(
    reference: Callable[[np.ndarray, np.ndarray, float], float],
) -> Callable[[Scene, float], list[float]]:
    """A reference of frames becomes one of labels: both sides averaged over their own best path."""

    def pooled(scores: np.ndarray, labels: list[int]) -> list[np.ndarray]:
        path = np.array(best_path_by_enumeration(scores, labels, BLANK))
        return [scores[path == position].mean(0) for position in range(len(labels))]

    def values(scene: Scene, temperature: float) -> list[float]:
        found = []
        for row, (length, labels) in enumerate(zip(LENGTHS, LABELS, strict=True)):
            student = pooled(_numpy(scene.output.logits)[row, :length], labels)
            teacher = pooled(_numpy(scene.signal.log_probs)[row, :length], labels)
            teacher = [np.log(softmax(scores)) for scores in teacher]
            found.append(np.mean([reference(s, t, temperature) for s, t in zip(student, teacher, strict=True)]))
        return found

    return values


def _blank_kl(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    p, q = (softmax(scores / temperature)[BLANK] for scores in (teacher, student))
    return temperature**2 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))


def _pseudo_label(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    return -np.log(softmax(student)[teacher.argmax()])


def _pseudo_labels(scene: Scene, temperature: float) -> list[float]:
    """Every frame is used; the temperature is not."""
    student, teacher = _numpy(scene.output.logits), _numpy(scene.signal.log_probs)
    return [
        np.mean([-np.log(softmax(student[row, t])[teacher[row, t].argmax()]) for t in range(length)])
        for row, length in enumerate(LENGTHS)
    ]


def _sequence_kd(scene: Scene, temperature: float) -> list[float]:
    teacher = _numpy(scene.signal.log_probs)
    heard = [
        [symbol for symbol, _ in itertools.groupby(teacher[row, :length].argmax(-1).tolist()) if symbol != BLANK]
        for row, length in enumerate(LENGTHS)
    ]
    return _mean_ctc(_numpy(scene.output.logits), heard)


def _decoder_kd(scene: Scene, temperature: float) -> list[float]:
    student, teacher = _numpy(scene.output.decoder_logits), _numpy(scene.signal.decoder_log_probs)
    return [
        np.mean([reference_kl(student[row, u], teacher[row, u], temperature) for u in range(len(labels) + 1)])
        for row, labels in enumerate(LABELS)
    ]


def _hidden(scene: Scene, temperature: float) -> list[float]:
    def standardised(row: np.ndarray) -> np.ndarray:
        return (row - row.mean()) / np.sqrt(row.var() + 1e-5)

    values = []
    for row, length in enumerate(LENGTHS):
        pairs = [
            (_numpy(scene.output.hidden_states[student])[row, t], _numpy(scene.signal.hidden_states[teacher])[row, t])
            for student, teacher in LAYER_MAP.items()
            for t in range(length)
        ]
        values.append(np.mean([np.mean((standardised(s) - standardised(t)) ** 2) for s, t in pairs]))
    return values


def _ctc(scene: Scene, temperature: float) -> list[float]:
    return _mean_ctc(_numpy(scene.output.logits))


def _auxiliary_ctc(scene: Scene, temperature: float) -> list[float]:
    return _mean_ctc(_numpy(scene.output.auxiliary_logits))


def _auxiliary_kd(scene: Scene, temperature: float) -> list[float]:
    """The student's own frames as the target, at temperature 8 whatever the schedule says, without the blank."""
    logits, auxiliary = _numpy(scene.output.logits), _numpy(scene.output.auxiliary_logits)
    labels = [symbol for symbol in range(VOCABULARY) if symbol != BLANK]
    return [
        np.mean([reference_kl(auxiliary[row, t, labels], logits[row, t, labels], 8.0) for t in range(length)])
        / len(LABELS[row])
        for row, length in enumerate(LENGTHS)
    ]


def _consistency(scene: Scene, temperature: float) -> list[float]:
    """Summed over the frames and divided by the labels, as the CTC loss is, at temperature 1."""
    logits = _numpy(scene.output.logits)
    other = [[np.log(softmax(frame)) for frame in row] for row in _numpy(scene.output.other_view_logits)]
    return [
        sum(reference_kl(logits[row, t], other[row][t], 1.0) for t in range(length)) / len(LABELS[row])
        for row, length in enumerate(LENGTHS)
    ]


def _mean_ctc(logits: np.ndarray, sequences: list[list[int]] = LABELS) -> list[float]:
    return [
        reference_ctc(np.log([softmax(frame) for frame in logits[row, :length]]), labels, BLANK) / len(labels)
        for row, (length, labels) in enumerate(zip(LENGTHS, sequences, strict=True))
    ]


def _cross_entropy(scene: Scene, temperature: float) -> list[float]:
    logits = _numpy(scene.output.decoder_logits)
    return [
        np.mean([-np.log(softmax(logits[row, u])[label]) for u, label in enumerate([*labels, EOS])])
        for row, labels in enumerate(LABELS)
    ]


REFERENCES = {
    "ctc_kd": _ctc_kd,
    "decoder_kd": _decoder_kd,
    "hidden": _hidden,
    "ctc": _ctc,
    "cross_entropy": _cross_entropy,
    "auxiliary_ctc": _auxiliary_ctc,
    "auxiliary_kd": _auxiliary_kd,
    "consistency": _consistency,
    "blank_mass": _blank_mass,
    "pseudo_labels": _pseudo_labels,
    "sequence_kd": _sequence_kd,
}

# What compares frames, by each way to match them. Frames of one rate, resampled, stay what they are.
MATCHED = {
    "ctc_kd:resample": _ctc_kd,
    "ctc_kd:shift": _shifted(reference_kl),
    "ctc_kd:tokens": _of_labels(reference_kl),
    "blank_mass:resample": _blank_mass,
    "blank_mass:shift": _shifted(_blank_kl),
    "blank_mass:tokens": _of_labels(_blank_kl),
    "pseudo_labels:resample": _pseudo_labels,
    "pseudo_labels:shift": _shifted(_pseudo_label, search_temperature=1.0),
    "pseudo_labels:tokens": _of_labels(_pseudo_label),
}
