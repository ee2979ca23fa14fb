"""What a trained recogniser says of one file or array, and when it says each word, by any of its decoders."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kd_asr_slr.corpora.media import read_audio, read_features, read_header, resampled
from kd_asr_slr.corpora.trimming import heard_part
from kd_asr_slr.decoding.log_probs import refuse_nan
from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.models.auto import load_model
from kd_asr_slr.models.forward import blank_of, frame_ratio, lengths_after, run_ctc
from kd_asr_slr.processing.auto import load_processor
from kd_asr_slr.processing.collator import pad_inputs
from kd_asr_slr.recognition.decoders import decoder_of
from kd_asr_slr.recognition.results import Clock, Recognition, read_path, read_text
from kd_asr_slr.reporting.run_folder import RunFolder

UNKNOWN_RATE = 1.0  # what a sign processor has as `frame_seconds` then
GIVEN = {"audio": "audio", "features": "frame features"}
TAKES = {"audio": "recordings", "features": "frame features (landmarks, or what a network made of a video)"}


class Recogniser:
    """A network and its processor, read once, for any number of files.

    Args:
        model: a run folder, a folder that `save_pretrained` wrote, or a name on the hub, with or without "@REVISION".
            Of a run folder that trained on trimmed recordings, what it hears is trimmed too; the times stay those of
            the whole recording.
        revision: commit, tag or branch of a hub name.
        **decoding: the decoder and its settings as recipes/score.py takes them: `decoder` (greedy, beam, attention,
            closed, joint), `lm`, `lm_weight`, `word_score`, `beam_width`, `word_list`, `closed_by`, `ctc_weight`,
            `max_length`. A beam search of a tuned run is that which was tuned, unless they say otherwise.

    Attributes:
        searched: the settings of a beam search and where they come from, in a sentence; "" for other decoders.

    Raises:
        UserError: if there is no such model or processor, they do not belong together, or the decoder has no such
            setting or does not fit to the model.

    Example:
        >>> recogniser = Recogniser("runs/demo/speech-student", decoder="beam", lm="words.arpa")
        >>> [recogniser(path).text for path in ("one.wav", "two.wav")]
    """

    def __init__(self, model: str | Path, revision: str | None = None, **decoding: Any) -> None:
        self.name = str(model)
        self.model = load_model(self.name, revision)
        self.processor = load_processor(self.name, revision)
        self._kind = "audio" if self.processor.sampling_rate else "features"
        self._ratio = frame_ratio(self.model)
        self._check_outputs()
        run = RunFolder(self.name)
        self._trim_db: float | None = run.config().get("trim_silence_db") if run.exists else None
        self._decode, self.searched = decoder_of(run, self.model, self.processor, decoding)

    def check(self, paths: Iterable[str | Path]) -> None:
        """Look at the headers of files before any of them is recognised.

        Raises:
            UserError: naming every file that is missing, damaged, or not what this model takes.
        """
        problems = []
        for path in paths:
            try:
                self._check_header(path)
            except UserError as error:
                problems.append(str(error))
        raise_all(problems, "the files")

    def __call__(self, media: str | Path | np.ndarray, sampling_rate: float | None = None) -> Recognition:
        """Recognise one file or array.

        Args:
            media: a .wav, .flac, .ogg, .npz, .npy or .pose file; or a waveform [S], full scale 1; or frames [T, F] or
                [T, P, C] (points, coordinates).
            sampling_rate: of a waveform given as an array, samples a second. Of sign, frames of the video a second;
                default: what the processor knows.

        Raises:
            UserError: if it cannot be read, is not what this model takes, or is too short for one output frame.
        """
        if sampling_rate is not None and not 0 < sampling_rate < math.inf:
            raise UserError(f"the sampling rate is {sampling_rate}", expected="more than 0")
        values = self.read(media, sampling_rate)
        heard = self.heard(values)
        what = "the array" if isinstance(media, np.ndarray) else str(media)
        batch = pad_inputs([self.inputs(values[heard], what)], self.processor.input_name)
        clock = self._clock(len(values), heard, sampling_rate)
        with torch.inference_mode():
            output = run_ctc(self.model, batch)
            logits = output.logits[0, : int(output.logit_lengths[0])].float()  # [T', V]
            refuse_nan(logits.numpy())
            if self._decode is None:
                return read_path(logits.numpy().argmax(-1), self.processor, clock)
            (text,) = self._decode(self.model, batch, output)
        return read_text(text, logits.log_softmax(-1).numpy(), self.processor, clock)

    def inputs(self, values: np.ndarray, what: str = "the array") -> np.ndarray:
        """What the network takes of them: features [T, F], or a waveform [S].

        Args:
            values: waveform [S] at the processor's rate, or frames [T, F].
            what: its name in messages.

        Raises:
            UserError: if they are too short for one output frame.
        """
        inputs = self.processor.extract(values)
        if int(lengths_after(self.model, torch.tensor([len(inputs)]))[0]) < 1:
            unit = "samples" if self._kind == "audio" else "frames"
            raise UserError(
                f"{what}: {len(values)} {unit} are too short for {self.name}", expected="one output frame at least"
            )
        return inputs

    def read(self, media: str | Path | np.ndarray, sampling_rate: float | None = None) -> np.ndarray:
        """The waveform [S] of a file or array at the processor's rate, or its frames [T, F].

        Args:
            media, sampling_rate: as for recognising.

        Raises:
            UserError: if it cannot be read, or is not what this model takes.
        """
        wanted = self.processor.sampling_rate
        if isinstance(media, np.ndarray):
            self._check_kind("audio" if media.ndim == 1 else "features", "the array")
            return media if wanted is None else _waveform(media, sampling_rate, wanted)
        self._check_header(media)
        if wanted is None:
            return read_features(media)
        if sampling_rate is not None:
            raise UserError(f"{media}: a sampling rate is given beside a file that has its own", fix="leave it out")
        return read_audio(media, wanted)

    def heard(self, values: np.ndarray) -> slice:
        """The part that the network is given: all of it, unless it was trained on trimmed recordings."""
        if self._trim_db is None or self.processor.sampling_rate is None:
            return slice(0, len(values))
        return heard_part(values, self.processor.sampling_rate, self._trim_db)

    def _clock(self, length: int, heard: slice, sampling_rate: float | None) -> Clock:
        if self.processor.sampling_rate is None:
            known = self.processor.frame_seconds if self.processor.frame_seconds != UNKNOWN_RATE else None
            seconds = known if sampling_rate is None else 1 / sampling_rate
            return Clock("frames", self._ratio, 0, length, length, seconds)
        a_second = self.processor.sampling_rate
        step = self._ratio * self.processor.frame_seconds
        return Clock("seconds", step, heard.start / a_second, heard.stop / a_second, length / a_second, 1.0)

    def _check_header(self, path: str | Path) -> None:
        self._check_kind("features" if read_header(path).rate is None else "audio", str(path))

    def _check_kind(self, given: str, what: str) -> None:
        if given != self._kind:
            raise UserError(
                f"{what} is {GIVEN[given]} and {self.name} takes {TAKES[self._kind]}",
                fix=f"give {TAKES[self._kind]}, or another model",
            )

    def _check_outputs(self) -> None:
        outputs, tokens = self.model.config.vocab_size, len(self.processor.tokens)
        if (outputs, blank_of(self.model)) != (tokens, self.processor.blank_id):
            raise UserError(
                f"{self.name} has {outputs} outputs, the blank at {blank_of(self.model)}, and a tokenizer of {tokens} "
                f"tokens, the blank at {self.processor.blank_id}",
                expected="a model and the processor that was saved beside it",
            )


def recognise(
    media: str | Path | np.ndarray,
    model: str | Path,
    revision: str | None = None,
    sampling_rate: float | None = None,
    **decoding: Any,
) -> Recognition:
    """Recognise one file or array, by the best path of the network's CTC output or by another decoder.

    For several files read the model once: `Recogniser`.

    Args:
        media: a .wav, .flac, .ogg, .npz, .npy or .pose file; or a waveform [S], full scale 1; or frames [T, F] or
            [T, P, C] (points, coordinates).
        model: a run folder, a folder that `save_pretrained` wrote, or a name on the hub.
        revision: commit, tag or branch of a hub name.
        sampling_rate: of a waveform given as an array, see `Recogniser`.
        **decoding: `decoder="beam"`, `lm="words.arpa"`, ...; see `Recogniser`.

    Raises:
        UserError: if one of them cannot be read, or they do not go together.

    Source: Graves et al., "Connectionist Temporal Classification" (ICML 2006), section 3.2: best path decoding.

    Example:
        >>> found = kd_asr_slr.recognise("digit.wav", model="runs/demo/speech-student")
        >>> found.text, [(word.text, word.start, word.end) for word in found.words]
        ('SEVEN', [('SEVEN', 0.24, 0.32)])
    """
    return Recogniser(model, revision, **decoding)(media, sampling_rate)


def _waveform(media: np.ndarray, sampling_rate: float | None, wanted: int) -> np.ndarray:
    if sampling_rate is None:
        raise UserError("a waveform without its sampling rate", expected="samples a second", fix="set sampling_rate")
    waveform = np.asarray(media, dtype=np.float32)
    return waveform if sampling_rate == wanted else resampled("the array", waveform, sampling_rate, wanted)
