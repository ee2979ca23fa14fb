"""Decoding that weighs whole hypotheses: the entries of a closed list, or what the beams of CTC and decoder found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from kd_asr_slr.arguments import DataArguments
from kd_asr_slr.decoding.beam import SPECIAL_TOKENS
from kd_asr_slr.decoding.closed import LabelSequences
from kd_asr_slr.decoding.prefix_beam import prefix_beam_search
from kd_asr_slr.decoding.spelling import kind_of
from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.outputs import CTCOutput
from kd_asr_slr.tool_arguments import ScoreArguments
from kd_asr_slr.training.student import read_word_list

if TYPE_CHECKING:
    from kd_asr_slr.training.evaluation import Decode

DEFAULT_MAX_LENGTH = 64
DEFAULT_BEAM_WIDTH = 10
TOKEN_MIN_LOGP = -12.0  # of the CTC beam: a token less likely than that begins no label in a frame


def need_decoder(model: PreTrainedModel) -> None:
    """Refuse a model without an attention decoder.

    Raises:
        UserError: if it has none.
    """
    if not getattr(model.config, "has_decoder", False):
        raise UserError(
            f"the model ({model.config.model_type}) has no attention decoder", fix="set --decoder greedy or beam"
        )


def longest_target(score: ScoreArguments, model: PreTrainedModel) -> int:
    """Labels that the decoder may write at most: as many as asked for, and as it has positions for."""
    return min(score.max_length or DEFAULT_MAX_LENGTH, model.config.max_target_positions - 1)


def combine(ctc: NDArray[np.float64], attention: NDArray[np.float64], ctc_weight: float) -> NDArray[np.float64]:
    """ctc_weight x log p_ctc + (1 - ctc_weight) x log p_att, [W]; a weight of 0 leaves out even what is impossible.

    Args:
        ctc: [W], log-probabilities, -inf where a sequence does not fit into the frames.
        attention: [W], the same by the decoder.
        ctc_weight: 0 to 1.

    Source: Watanabe et al., "Hybrid CTC/Attention Architecture for End-to-End Speech Recognition" (2017), rescoring.
    """
    parts = [weight * scores for weight, scores in ((ctc_weight, ctc), (1 - ctc_weight, attention)) if weight]
    return np.sum(parts, axis=0)


def words_of(score: ScoreArguments, processor: Any, data: DataArguments, training_texts: Sequence[str]) -> list[str]:
    """The entries that closed decoding chooses from, each once.

    Args:
        score: `word_list`, where it is given.
        processor: the run's; its labels are the entries where they are words and no list is given.
        data: its normaliser is applied to the list.
        training_texts: normalised; the entries where the labels are no words.

    Raises:
        UserError: if there is no entry.
    """
    if score.word_list:
        texts = read_word_list(Path(score.word_list), data.normaliser)
    elif kind_of(processor) == "words":
        blank = processor.tokens[processor.blank_id]
        texts = [token for token in processor.tokens if token != blank and token not in SPECIAL_TOKENS]
    else:
        texts = list(training_texts)
    words = sorted({" ".join(text.split()) for text in texts} - {""})
    if not words:
        raise UserError("there is no entry to choose from in closed decoding", fix="set --word_list FILE")
    return words


def closed_decoding(processor: Any, score: ScoreArguments, model: PreTrainedModel, words: Sequence[str]) -> Decode:
    """The most probable entry of a list, by CTC, by the decoder or by both; "" where none fits into the frames.

    Args:
        processor: the run's.
        score: `closed_by`, `ctc_weight`, `max_length`.
        model: the recogniser.
        words: the entries, normalised as the training texts were.

    Raises:
        UserError: naming the entries that the labels cannot spell or that are too long, or for want of a decoder.
    """
    longest = score.max_length
    if score.closed_by != "ctc":
        need_decoder(model)
        room = model.config.max_target_positions - 1
        longest = min(longest or room, room)
    sequences = _encoded(words, processor, longest)
    entries = LabelSequences(sequences, processor.blank_id, len(processor.tokens))

    def decode(model: Any, batch: dict[str, Any], output: CTCOutput) -> list[str]:
        texts = []
        for log_probs, frames in _utterances(model, batch, output, decoder=score.closed_by != "ctc"):
            found = entries.log_probs(log_probs) if score.closed_by != "attention" and len(log_probs) else None
            if score.closed_by != "ctc" and len(log_probs):
                attention = model.sequence_log_probs(frames, sequences).double().cpu().numpy()  # [W]
                found = attention if found is None else combine(found, attention, score.ctc_weight)
            texts.append("" if found is None or np.isneginf(found.max()) else words[int(found.argmax())])
        return texts

    return decode


def joint_decoding(processor: Any, score: ScoreArguments, model: PreTrainedModel) -> Decode:
    """The best of what the beams of CTC and of the decoder found, by the weighted sum of both log-probabilities.

    Args:
        processor: the run's.
        score: `ctc_weight`, `beam_width`, `max_length`.
        model: a recogniser with a decoder.

    Raises:
        UserError: if the model has no decoder.
    """
    need_decoder(model)
    longest = longest_target(score, model)
    width = score.beam_width or DEFAULT_BEAM_WIDTH
    special = [index for index, token in enumerate(processor.tokens) if token in SPECIAL_TOKENS]
    special = [index for index in special if index != processor.blank_id]

    def decode(model: Any, batch: dict[str, Any], output: CTCOutput) -> list[str]:
        texts = []
        for log_probs, frames in _utterances(model, batch, output, decoder=True):
            if not len(log_probs):
                texts.append("")
                continue
            found = {tuple(hypothesis.token_ids) for hypothesis in _ctc_beam(log_probs, processor, special, width)}
            found = {labels for labels in found if len(labels) <= longest} | _decoder_beam(
                model, frames, longest, width
            )
            candidates = sorted(found)
            ctc = LabelSequences(candidates, processor.blank_id, log_probs.shape[1]).log_probs(log_probs)
            attention = model.sequence_log_probs(frames, candidates).double().cpu().numpy()
            best = candidates[int(combine(ctc, attention, score.ctc_weight).argmax())]
            texts.append(processor.decode_labels(best))
        return texts

    return decode


def _ctc_beam(log_probs: NDArray[np.floating], processor: Any, special: list[int], width: int) -> list[Any]:
    """Hypotheses of the CTC beam; special tokens are never output, their mass goes to the others."""
    open_ = log_probs.astype(np.float64)
    open_[:, special] = -np.inf
    open_ -= np.logaddexp.reduce(open_, axis=1, keepdims=True)
    return prefix_beam_search(open_, processor.blank_id, width, TOKEN_MIN_LOGP)


def _decoder_beam(model: Any, frames: Any, longest: int, width: int) -> set[tuple[int, ...]]:
    """Label sequences of the decoder's beam, for the frames [T, D] of one utterance."""
    config = model.config
    lengths = torch.tensor([len(frames)], device=frames.device)
    # Not divided by the length: the candidates are compared by their log-probabilities.
    options = {"num_return_sequences": width, "length_penalty": 0.0} if width > 1 else {}
    rows = model.generate_from(frames[None], lengths, longest, width, **options).tolist()
    specials = (config.pad_token_id, config.bos_token_id, config.eos_token_id)
    return {tuple(label for label in row if label not in specials) for row in rows}


def _encoded(words: Sequence[str], processor: Any, longest: int | None) -> list[list[int]]:
    sequences, problems = [], []
    for word in words:
        try:
            labels = processor.encode_labels(word)
        except UserError as error:
            problems.append(str(error))
            continue
        sequences.append(labels)
        if longest is not None and len(labels) > longest:
            problems.append(f"'{word}' has {len(labels)} labels; expected {longest} at most (max_length)")
    shown = [*problems[:5], f"and {len(problems) - 5} entries more"] if len(problems) > 5 else problems
    raise_all(shown, "the list for closed decoding")
    return sequences


def _utterances(
    model: Any, batch: dict[str, Any], output: CTCOutput, decoder: bool
) -> Iterator[tuple[NDArray[np.floating], torch.Tensor | None]]:
    """For each utterance its CTC log-probabilities [T, V] and, for the decoder, the encoder's frames [T, D]."""
    log_probs = output.logits.float().log_softmax(-1).cpu().numpy()  # [B, T, V]
    encoded = model.encode(batch["input_values"], batch["attention_mask"])[0] if decoder else None  # [B, T, D]
    for row, length in enumerate(output.logit_lengths.tolist()):
        yield log_probs[row, :length], None if encoded is None else encoded[row, :length]
