"""Trained teachers with thousands of labels, made in seconds: words of two sounds each, as noisy frames.

A random tensor is no teacher: what a trained network leaves over for thousands of labels that it does not hear decides
what a store may leave out. Words share sounds, so that networks confuse some and not others; their frequencies fall as
1/rank, so that most are hardly ever heard.
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from kd_asr_slr.models.bilstm.configuration_bilstm import BiLstmConfig
from kd_asr_slr.models.bilstm.modeling_bilstm import BiLstmForCTC
from kd_asr_slr.teachers.streaming_mean import StreamingMean

SOUNDS, WIDTH, BLANK = 72, 24, 0
# Quick teachers stop early: their words start unlikely, or most of their tail would be what they have not unlearnt yet.
TEACHER_STEPS, SPEAKER_STEPS, STUDENT_STEPS, UNLIKELY = 400, 10, (40, 160), 0.0
QUICK_TEACHER_STEPS, QUICK_SPEAKER_STEPS, QUICK_STUDENT_STEPS, QUICK_UNLIKELY = 160, 5, (20, 80), 2.5
RATE, BATCH = 5e-3, 16


@dataclass
class Utterances:
    """Frames [T, F] and words [U] of some utterances."""

    frames: list[torch.Tensor]
    words: list[torch.Tensor]

    def batch(self, chosen: Sequence[int]) -> dict[str, torch.Tensor]:
        """Collated as the package does it."""
        frames = [self.frames[index] for index in chosen]
        lengths = torch.tensor([len(item) for item in frames])
        padded = pad_sequence(frames, batch_first=True)
        return {
            "input_features": padded,
            "attention_mask": (torch.arange(padded.shape[1])[None] < lengths[:, None]).long(),
            "labels": pad_sequence([self.words[index] for index in chosen], batch_first=True, padding_value=-100),
        }


def speak(count: int, vocabulary: int, seed: int, speaker: int | None = None) -> Utterances:
    """Utterances of 6 to 11 words; a speaker bends all sounds in a way of their own."""
    language, draws = torch.Generator().manual_seed(7), torch.Generator().manual_seed(seed)
    sounds = torch.randn(SOUNDS, WIDTH, generator=language)
    spelling = torch.randperm(SOUNDS**2, generator=language)[: vocabulary - 1]
    if speaker is not None:
        voice = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(100 + speaker))
        sounds = sounds @ (torch.eye(WIDTH) + 0.15 * voice)
    frequency = 1 / torch.arange(1.0, vocabulary)
    said = Utterances([], [])
    for _ in range(count):
        words = torch.multinomial(frequency, int(torch.randint(6, 12, (), generator=draws)), True, generator=draws)
        both = torch.stack([spelling[words] // SOUNDS, spelling[words] % SOUNDS], 1).flatten()
        lasting = torch.randint(2, 5, both.shape, generator=draws)
        frames = sounds[both].repeat_interleave(lasting, 0)
        said.frames.append(frames + 0.5 * torch.randn(frames.shape, generator=draws))
        said.words.append(words + 1)
    return said


def network(vocabulary: int, hidden: int = 64, seed: int = 0, unlikely: float = 0.0) -> BiLstmForCTC:
    """A small student or teacher; its words start so much (in nats) less likely than the blank."""
    torch.manual_seed(seed)
    shape = {"input_size": WIDTH, "hidden_size": hidden, "num_layers": 1, "stride": 2, "dropout": 0.0}
    model = BiLstmForCTC(BiLstmConfig(**shape, vocab_size=vocabulary))
    with torch.no_grad():
        model.head.bias[BLANK + 1 :] -= unlikely
    return model


def train(model: BiLstmForCTC, data: Utterances, steps: int, rate: float = RATE) -> BiLstmForCTC:
    """CTC on labels; the same model, in evaluation mode."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps + 1)
    draws = torch.Generator().manual_seed(steps)
    model.train()
    for _ in range(steps):
        batch = data.batch(torch.randint(len(data.frames), (BATCH,), generator=draws).tolist())
        labels = batch["labels"]
        output = model(batch["input_features"], attention_mask=batch["attention_mask"])
        log_probs, counts = output.logits.log_softmax(-1).transpose(0, 1), (labels >= 0).sum(1)
        loss = F.ctc_loss(log_probs, labels.clamp(min=0), output.logit_lengths, counts, zero_infinity=True)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return model.eval()


@dataclass
class Class:
    """Teachers, what they say together of some utterances, and students at several ages.

    Attributes:
        targets: combined log-probabilities of each utterance, [T, V].
        students: age in steps -> logits of each utterance, [T, V].
        words_heard: of the words that the first teacher heard right, of all of its own speaker's.
    """

    targets: list[torch.Tensor]
    students: dict[int, list[torch.Tensor]]
    words_heard: float


@functools.cache
def make_class(vocabulary: int, teachers: int, quick: bool = False, utterances: int = 24) -> Class:
    """One generalist is trained, then a copy of it for each speaker, as `adapt_teachers` does; students on labels.

    `quick` trains all of them less long.
    """
    teacher_steps, speaker_steps = (
        (QUICK_TEACHER_STEPS, QUICK_SPEAKER_STEPS) if quick else (TEACHER_STEPS, SPEAKER_STEPS)
    )
    start = network(vocabulary, unlikely=QUICK_UNLIKELY if quick else UNLIKELY)
    generalist = train(start, speak(2000, vocabulary, 1), teacher_steps)
    everyone = [generalist]
    if teachers > 1:
        everyone = [
            train(
                copy.deepcopy(generalist),
                speak(100, vocabulary, 50 + number, number),
                speaker_steps,
                RATE / 4,
            )
            for number in range(teachers)
        ]
    heard = speak(utterances, vocabulary, 900, 0 if teachers > 1 else None)
    batch = heard.batch(range(utterances))
    mean = StreamingMean(utterances, "log")
    for teacher in everyone:
        mean.add(hear(teacher, batch)[0], torch.zeros(utterances))
    _, lengths = hear(generalist, batch)
    students, student = {}, network(vocabulary, hidden=32, seed=1)
    said = speak(1000, vocabulary, 77)
    for age in (0, *(QUICK_STUDENT_STEPS if quick else STUDENT_STEPS)):
        if age:
            train(student, said, age)
        students[age] = unpadded(hear(student.eval(), batch)[0], lengths)
    own = unpadded(hear(everyone[0], batch)[0], lengths)
    return Class(unpadded(mean.log_probs(), lengths), students, words_heard(own, heard.words))


@torch.no_grad()
def hear(model: BiLstmForCTC, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, list[int]]:
    """Logits [B, T, V] and frames of each utterance."""
    output = model(batch["input_features"], attention_mask=batch["attention_mask"])
    return output.logits, output.logit_lengths.tolist()


def unpadded(padded: torch.Tensor, lengths: Sequence[int]) -> list[torch.Tensor]:
    """Each utterance's own frames."""
    return [row[:length].clone() for row, length in zip(padded, lengths, strict=True)]


def words_heard(logits: Sequence[torch.Tensor], words: Sequence[torch.Tensor]) -> float:
    """Share of the words that stand in the greedy path of their utterance."""
    found = total = 0
    for scores, said in zip(logits, words, strict=True):
        path = {label for label, _ in itertools.groupby(scores.argmax(-1).tolist())}
        found, total = found + sum(word in path for word in said.tolist()), total + len(said)
    return found / total
