"""From a model and a dataset to hypotheses, and from hypotheses to rates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import EvalPrediction, PreTrainedModel

from kd_asr_slr.decoding.beam_options import BeamOptions
from kd_asr_slr.decoding.greedy import collapse
from kd_asr_slr.decoding.pool import BeamPool
from kd_asr_slr.decoding.spelling import kind_of
from kd_asr_slr.models.forward import run_ctc
from kd_asr_slr.outputs import CTCOutput
from kd_asr_slr.processing.collator import Collator
from kd_asr_slr.processing.dataset import RecogniserDataset
from kd_asr_slr.progress import Progress
from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.scoring.predictions import Prediction
from kd_asr_slr.scoring.protocols import get_protocol
from kd_asr_slr.scoring.rates import wer, wra
from kd_asr_slr.scoring.score import count_rows, score_predictions
from kd_asr_slr.tool_arguments import ScoreArguments
from kd_asr_slr.training.dev_labels import IGNORED, best_labels
from kd_asr_slr.training.hybrid_decoding import closed_decoding, joint_decoding, longest_target, need_decoder

# Columns of the corpus that predictions carry along, for rates by group and for intervals.
CARRIED = ("utterance", "band", "category", "block", "microphone", "intelligibility")

# A search may go on while the network runs on the next batch, so its texts are taken out when all batches are through.
Decode = Callable[[PreTrainedModel, dict[str, Any], CTCOutput], Iterable[str]]


def greedy_decoding(processor: Any, longest: int | None = None) -> Decode:
    """Best label of every frame, repeats collapsed, blanks dropped; no more than the first `longest` labels."""

    def decode(model: PreTrainedModel, batch: dict[str, Any], output: CTCOutput) -> list[str]:
        return [text_of_frames(row, processor, longest) for row in best_labels(output).cpu().numpy()]

    return decode


def beam_decoding(processor: Any, score: ScoreArguments) -> Decode:
    """CTC beam search, with an n-gram language model where one is given."""
    pool = BeamPool(beam_arguments(processor, score), score.decode_processes)

    def decode(model: PreTrainedModel, batch: dict[str, Any], output: CTCOutput) -> Iterable[str]:
        texts = (hypothesis.text for hypothesis in pool.submit(log_probs_of(output)))
        return texts if score.max_length is None else (_cut(text, processor, score.max_length) for text in texts)

    return decode


def nemo_beam_decoding(processor: Any, score: ScoreArguments) -> Decode:
    """The same search by NeMo, on the device of the model's outputs."""
    from kd_asr_slr.training.nemo_beam import NemoBeam

    beam = NemoBeam(**beam_arguments(processor, score))

    def decode(model: PreTrainedModel, batch: dict[str, Any], output: CTCOutput) -> list[str]:
        found = beam.decode(output.logits, output.logit_lengths)
        return [processor.decode_labels(labels[: score.max_length]) for labels in found]

    return decode


def log_probs_of(output: CTCOutput) -> list[np.ndarray]:
    """The log-probabilities [T, V] of every utterance, without padding."""
    log_probs = output.logits.float().log_softmax(-1).cpu().numpy()  # [B, T, V]
    return [row[:length] for row, length in zip(log_probs, output.logit_lengths.tolist(), strict=True)]


def beam_arguments(processor: Any, score: ScoreArguments) -> dict[str, Any]:
    """The arguments of a `BeamDecoder`; what `score` leaves open (see `tuning.settle`) is the decoder's default."""
    names = ("beam_width", "lm_weight", "word_score")
    given = {name: getattr(score, name) for name in names if getattr(score, name) is not None}
    return {
        "tokens": processor.tokens,
        "blank_id": processor.blank_id,
        "kind": kind_of(processor),
        "lm_path": score.lm,
        "options": BeamOptions(**given),
    }


def attention_decoding(processor: Any, score: ScoreArguments, model: PreTrainedModel) -> Decode:
    """Greedy generation by the model's decoder.

    Raises:
        UserError: if the model has no decoder.
    """
    need_decoder(model)
    longest = longest_target(score, model)

    def decode(model: Any, batch: dict[str, Any], output: CTCOutput) -> list[str]:
        ids = model.generate(batch["input_values"], attention_mask=batch["attention_mask"], max_new_tokens=longest)
        return [processor.decode_labels(row) for row in ids.tolist()]

    return decode


def build_decoding(
    score: ScoreArguments, processor: Any, model: PreTrainedModel, words: Sequence[str] | None = None
) -> Decode:
    """The decoder that `score.decoder` names.

    Args:
        score: which one, and its settings.
        processor: the run's.
        model: the recogniser.
        words: for closed decoding, the entries to choose from (`hybrid_decoding.words_of`).

    Raises:
        UserError: if the model, the words or the language model do not fit.
    """
    if score.decoder == "beam":
        return nemo_beam_decoding(processor, score) if score.beam_engine == "nemo" else beam_decoding(processor, score)
    if score.decoder == "attention":
        return attention_decoding(processor, score, model)
    if score.decoder == "joint":
        return joint_decoding(processor, score, model)
    if score.decoder == "closed":
        return closed_decoding(processor, score, model, words or ())
    return greedy_decoding(processor, score.max_length)


def predict(
    model: PreTrainedModel,
    dataset: RecogniserDataset,
    collator: Collator,
    decode: Decode,
    batch_size: int,
    what: str = "decoding",
    protocol: str | None = None,
) -> list[Prediction]:
    """Decode a dataset in its own order.

    Args:
        model: in any mode; it is left in evaluation mode.
        dataset: of evaluation items.
        collator: makes batches of them.
        decode: from a model, a batch and its output to one text per utterance, there or still to be searched.
        batch_size: utterances a forward pass.
        what: the step's name in the terminal.
        protocol: of the WER so far, which is shown there; None shows none.

    Returns:
        One prediction per utterance, with its reference text.
    """
    model.eval()
    heard, waiting = 0, []
    found = Decoded(dataset, what, protocol)
    for batch in batches(dataset, collator, batch_size):
        moved = {key: value.to(model.device) if torch.is_tensor(value) else value for key, value in batch.items()}
        with torch.inference_mode():
            output = run_ctc(model, moved)
            texts = decode(model, moved, output)
        for utterance in batch["ids"]:
            row = dataset.rows[heard]
            if row["id"] != utterance:
                raise ValueError(f"utterance {utterance} where {row['id']} was expected")
            heard += 1
        if isinstance(texts, list):
            found.add(texts)
        else:  # other processes search them, while the network goes on
            waiting.append(texts)
            found.line.note(f"network {heard}/{len(dataset)}")
            found.line.update(0)
    for texts in waiting:
        for text in texts:
            found.add([text])
    return found.finished()


class Decoded:
    """The predictions of a dataset as they come in, in its order, with their live line.

    Args:
        dataset: what is decoded.
        what: the step's name in the terminal.
        protocol: of the WER so far; None shows none.
    """

    def __init__(self, dataset: RecogniserDataset, what: str, protocol: str | None) -> None:
        self.line = Progress(what=what, total=len(dataset))
        self._rows = dataset.rows
        self._predictions: list[Prediction] = []
        self._protocol = get_protocol(protocol) if protocol else None
        self._errors = self._tokens = 0

    def add(self, texts: Sequence[str]) -> None:
        """The texts of the next utterances."""
        start = len(self._predictions)
        self._predictions += [prediction_of(self._rows[start + index], text) for index, text in enumerate(texts)]
        if self.line.watched and self._protocol is not None:
            for counts in count_rows(self._predictions[start:], self._protocol, "so far"):
                self._errors += counts.errors
                self._tokens += counts.reference_tokens
            self.line.note(f"WER so far {100 * self._errors / self._tokens:.1f} %" if self._tokens else "")
        self.line.update(len(texts))

    def finished(self) -> list[Prediction]:
        """All predictions.

        Raises:
            ValueError: if a text is missing.
        """
        self.line.close()
        if len(self._predictions) != len(self._rows):
            raise ValueError(f"{len(self._predictions)} texts for {len(self._rows)} utterances")
        return self._predictions


def batches(dataset: RecogniserDataset, collator: Collator, batch_size: int) -> Iterator[dict[str, Any]]:
    """The dataset in its own order, in batches."""
    yield from DataLoader(dataset, batch_size=batch_size, shuffle=False, collate_fn=collator)


def text_of_frames(frames: np.ndarray, processor: Any, longest: int | None = None) -> str:
    """The text of one utterance's best labels [T]; frames of -100 lie beyond its end."""
    return processor.decode_labels(collapse(frames[frames != IGNORED], processor.blank_id)[:longest])


def _cut(text: str, processor: Any, longest: int) -> str:
    """The text of the first labels of a text."""
    return processor.decode_labels(processor.encode_labels(text, unknown="drop")[:longest])


class DevMetrics:
    """`compute_metrics` of the trainer: WER and WRA of greedy decoding against the texts of the dev split.

    Texts, not label ids, are the references: a word outside of the vocabulary stays an error.

    Args:
        dataset: the evaluation dataset, in the order it is predicted.
        processor: from label ids to text.
        protocol: name of the scoring protocol.
    """

    def __init__(self, dataset: RecogniserDataset, processor: Any, protocol: str = "words") -> None:
        self.dataset = dataset
        self.processor = processor
        self.protocol = protocol

    def __call__(self, evaluation: EvalPrediction) -> dict[str, float]:
        frames = np.asarray(evaluation.predictions)  # [N, T]
        if len(frames) != len(self.dataset):
            raise ValueError(f"{len(frames)} predictions for {len(self.dataset)} utterances")
        predictions = [
            prediction_of(self.dataset.rows[index], text_of_frames(best, self.processor))
            for index, best in enumerate(frames)
        ]
        return rates(predictions, self.protocol)


def rates(predictions: Sequence[Prediction], protocol: str = "words") -> dict[str, float]:
    """WER and WRA of predictions of the dev split by a protocol, as fractions."""
    counts = count_rows(predictions, get_protocol(protocol), "dev")
    return {"wer": wer(counts), "wra": wra(counts)}


def score_split(
    folder: RunFolder,
    predictions: Sequence[Prediction],
    split: str,
    decoder: str,
    lm: str | None = None,
    protocol: str = "words",
    search: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Score predictions and write both, predictions and scores, into the run folder; returns the entry of `scores`.

    The entry of a beam search keeps its weights under `search`.
    """
    score = score_predictions(predictions, split=split, decoder=decoder, lm=lm, protocol=protocol)
    if search:
        score["search"] = dict(search)
    folder.write_predictions(split, predictions, decoder)
    folder.add_scores(score)
    return score


def prediction_of(row: Mapping[str, Any], hypothesis: str) -> Prediction:
    """A row of `predictions-<split>.jsonl`, with what the corpus knows of the utterance (`CARRIED`)."""
    said = {"id": row["id"], "speaker": row["speaker"], "reference": row["text"], "hypothesis": hypothesis}
    known = {name: row[name] for name in CARRIED if row.get(name) is not None}
    return cast(Prediction, {**said, **known})


def with_seen(predictions: Sequence[Prediction], training_texts: Iterable[str]) -> list[Prediction]:
    """The predictions with the key `seen`: whether the reference text occurs among those of the training.

    Args:
        predictions: of any split.
        training_texts: normalised as the references are.
    """
    texts = set(training_texts)
    return [{**prediction, "seen": prediction["reference"] in texts} for prediction in predictions]
