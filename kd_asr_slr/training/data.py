"""From data arguments to checked, split and normalised datasets."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict

from kd_asr_slr.arguments import DataArguments, DistillationArguments
from kd_asr_slr.command_line import as_dict
from kd_asr_slr.corpora.build import load_corpus
from kd_asr_slr.corpora.media import content_fingerprint, read_audio, read_features
from kd_asr_slr.corpora.media_check import check_media
from kd_asr_slr.corpora.row_files import values_of
from kd_asr_slr.corpora.schema import UNTRANSCRIBED
from kd_asr_slr.corpora.split_policies import filter_microphones
from kd_asr_slr.corpora.splits import apply_split, filter_speakers
from kd_asr_slr.corpora.trimming import trim_silence
from kd_asr_slr.corpora.untranscribed import load_untranscribed, set_untranscribed
from kd_asr_slr.errors import UserError
from kd_asr_slr.processing.augmentation import build_augmentation
from kd_asr_slr.processing.dataset import RecogniserDataset
from kd_asr_slr.scoring.protocols import default_protocol, get_protocol
from kd_asr_slr.text import normalise, normaliser_of_split
from kd_asr_slr.tool_arguments import ScoreArguments

logger = logging.getLogger(__name__)


def load_data(data: DataArguments, splits: Sequence[str] | None = None) -> DatasetDict:
    """The corpus of a run: loaded, split, restricted to its speakers, with normalised texts and checked media.

    Args:
        data: which corpus, which speakers, which splits.
        splits: the splits that are needed; default: those that `data` names to train, tune and test on.

    Returns:
        The splits of the corpus under their own names. The train split keeps all speakers of the policy; use
        `training_part` for those a run trains on (labels are shared by all of them).

    Raises:
        UserError: for anything wrong with the manifest, the splits, the speakers, the texts or the media.
    """
    corpus = load_rows(data)
    normalise("", data.normaliser)  # an unknown name is named here, not in a worker process
    protocol_of(data)
    # Before utterances move between splits: how a text was written depends on the split it was published in.
    written = corpus
    corpus = DatasetDict({split: _normalised(part, split, data) for split, part in written.items()})
    _refuse_emptied(written, corpus, data.normaliser)
    if data.microphones:
        corpus = filter_microphones(corpus, data.microphones)
    given = [corpus.pop(UNTRANSCRIBED)] if UNTRANSCRIBED in corpus else []  # split policies are for what has a text
    if data.untranscribed_manifest:
        given.append(load_untranscribed(data.untranscribed_manifest, corpus_name(data), corpus))
    corpus = apply_split(
        corpus,
        data.split_policy,
        held_out=data.held_out_speakers,
        train_blocks=data.train_blocks,
        test_blocks=data.test_blocks,
        dev_share=data.dev_share,
        test_share=data.test_share,
    )
    corpus = set_untranscribed(
        corpus,
        data.untranscribed_speakers,
        data.untranscribed_split,
        train=data.train_split,
        dev=data.dev_split,
        given=given,
    )
    for split in splits or (data.train_split, data.dev_split, data.test_split):
        training_part(corpus, data, split)
    if data.media_check != "none":
        check_media(corpus, level="full" if data.media_check == "full" else "headers")
    return corpus


def load_rows(data: DataArguments) -> DatasetDict:
    """The corpus as it lies on disk: neither normalised, nor split by a policy, nor with its files checked."""
    generated = "synthetic" in data.corpus
    return load_corpus(
        data.corpus,
        manifest=data.manifest,
        name=data.corpus_name or (corpus_name(data) if data.corpus == "manifest" else None),
        root=None if generated else data.data_dir,
        options=as_dict(data.corpus_options),
        cache_dir=data.data_dir if generated else None,
    )


def protocol_of(data: DataArguments, asked: str | None = None) -> str:
    """The name of the scoring protocol: the one asked for, else the run's, else the default of its corpus.

    Raises:
        UserError: if there is no protocol of that name.
    """
    named = data.corpus_name if data.corpus == "manifest" and data.corpus_name else data.corpus
    return get_protocol(asked or data.protocol or default_protocol(named)).name


def _normalised(part: Dataset, split: str, data: DataArguments) -> Dataset:
    name = normaliser_of_split(data.normaliser, training=split == data.train_split)

    def clean(rows: Mapping[str, list[str]]) -> dict[str, list[str]]:
        return {"text": [normalise(text, name) for text in rows["text"]]}

    return part.map(clean, batched=True, load_from_cache_file=False)


def _refuse_emptied(written: DatasetDict, cleaned: DatasetDict, normaliser: str) -> None:
    """A transcript of which cleaning leaves nothing has no label to learn, and no word to be scored."""
    emptied = [
        (split, name, text)
        for split, part in written.items()
        if split != UNTRANSCRIBED
        for name, text, clean in zip(
            values_of(part, "id"), values_of(part, "text"), values_of(cleaned[split], "text"), strict=True
        )
        if not clean.strip()
    ]
    if emptied:
        split, name, text = emptied[0]
        raise UserError(
            f"{len(emptied)} transcripts are empty after cleaning (normaliser '{normaliser}'), "
            f"the first is {text!r} of '{name}' in '{split}'",
            expected="at least one word in each",
            fix="correct them, take their rows out, or set another --normaliser",
        )


def training_part(corpus: DatasetDict, data: DataArguments, split: str) -> Dataset:
    """One split, restricted to `train_speakers` where they are given (train and dev) or to `test_speakers` (test).

    Raises:
        UserError: if there is no such split, or nothing is left of it.
    """
    if split not in corpus:
        raise UserError(
            f"there is no split '{split}' in this corpus",
            expected=f"one of {', '.join(corpus)}",
            fix="name another split, or choose a --split_policy that makes one (held_out_speaker, prompt_disjoint)",
        )
    speakers = data.test_speakers if split == data.test_split else data.train_speakers
    part = filter_speakers(corpus[split], speakers) if speakers else corpus[split]
    if len(part) == 0:
        raise UserError(f"split '{split}' has no utterances of {', '.join(speakers) or 'anyone'}")
    return part


def media_kind(corpus: DatasetDict) -> str:
    """ "audio" or "features": what the rows of the corpus point at."""
    columns = next(iter(corpus.values())).column_names
    return "audio" if "audio" in columns else "features"


def media_reader(processor: Any, trim_silence_db: float | None = None) -> Callable[[Mapping[str, Any]], np.ndarray]:
    """Row -> waveform [S] at the processor's rate, or frames [T, F].

    Args:
        processor: the student's; its teachers hear what it hears.
        trim_silence_db: what lies this far under the loudest frame, at both ends, is cut off; None keeps everything.
    """

    def read(row: Mapping[str, Any]) -> np.ndarray:
        if not row.get("audio"):
            return read_features(row["features"])
        waveform = read_audio(row["audio"], processor.sampling_rate)
        return waveform if trim_silence_db is None else trim_silence(waveform, processor.sampling_rate, trim_silence_db)

    return read


def media_fingerprint(rows: Dataset, corpus: DatasetDict, data: DataArguments) -> str:
    """Name what a run hears of these rows: the content of their files, and how their ends are trimmed."""
    content = content_fingerprint(rows[media_kind(corpus)])
    return content if data.trim_silence_db is None else f"{content}, trimmed at {data.trim_silence_db:g} dB"


def training_items(
    rows: Dataset, processor: Any, data: DataArguments, training: DistillationArguments, **options: Any
) -> RecogniserDataset:
    """The dataset to train on, augmented as the arguments say.

    Args:
        rows: of the corpus.
        processor: the student's.
        data: the bound of the feature cache.
        training: augmentation and seed.
        **options: `subsampling` of the student, `views` for teachers with other features.
    """
    chosen = augmentation_of(training)
    augmentation = build_augmentation(chosen, training.seed) if chosen else None
    return RecogniserDataset(
        rows,
        processor,
        media_reader(processor, data.trim_silence_db),
        augmentation,
        cache_mb=data.feature_cache_mb,
        train=True,
        two_views=training.consistency_weight > 0,
        **options,
    )


def augmentation_of(training: DistillationArguments) -> dict[str, Any]:
    """Name -> options of the augmentations of a run, in their order.

    Raises:
        UserError: for options of an augmentation that is not used.
    """
    options = as_dict(training.augmentation_options)
    unused = sorted(set(options) - set(training.augmentation))
    if unused:
        raise UserError(
            f"augmentation_options has {', '.join(unused)}", expected="names that --augmentation lists", fix="add them"
        )
    return {name: options.get(name) for name in training.augmentation}


def evaluation_items(
    rows: Dataset, processor: Any, data: DataArguments, views: Mapping[str, Any] | None = None
) -> RecogniserDataset:
    """The dataset to decode: never augmented, words outside of the vocabulary stay in its references."""
    return RecogniserDataset(
        rows,
        processor,
        media_reader(processor, data.trim_silence_db),
        views=views,
        cache_mb=data.feature_cache_mb,
        train=False,
    )


def data_of(config: Mapping[str, Any]) -> DataArguments:
    """The data arguments in a run's resolved configuration."""
    names = {item.name for item in dataclasses.fields(DataArguments)}
    return DataArguments(**{name: value for name, value in config.items() if name in names})


def scored_corpus(config: dict[str, Any], score: ScoreArguments) -> DataArguments:
    """The data arguments under which a run is scored: its own, or those of another manifest.

    Args:
        config: the run's resolved configuration.
        score: what to score; a manifest there replaces the run's corpus.
    """
    data = data_of(config)
    if score.manifest:
        data = dataclasses.replace(
            data,
            corpus="manifest",
            manifest=score.manifest,
            data_dir=score.data_dir,
            corpus_name=score.corpus_name,
            corpus_options=None,
            split_policy="as_given",
            held_out_speakers=[],
            train_blocks=[],
            test_blocks=[],
            microphones=[],
            train_speakers=[],
            test_speakers=[],
            untranscribed_speakers=[],
            untranscribed_manifest=None,
        )
    elif score.data_dir:
        data = dataclasses.replace(data, data_dir=score.data_dir)
    return data


def corpus_name(data: DataArguments) -> str:
    """What a corpus is called in results: as the user says, else the corpus itself, or the manifest's folder."""
    if data.corpus_name or data.corpus != "manifest":
        return data.corpus_name or data.corpus
    return Path(data.data_dir or Path(data.manifest or ".").parent).resolve().name
