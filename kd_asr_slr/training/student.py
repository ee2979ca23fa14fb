"""The student and its processor: built from arguments, or taken over from a run or a hub name."""

from __future__ import annotations

import difflib
import inspect
from pathlib import Path
from typing import Any

from datasets import DatasetDict
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, set_seed

from kd_asr_slr.arguments import DataArguments, ModelArguments
from kd_asr_slr.command_line import as_dict
from kd_asr_slr.corpora.media import read_features
from kd_asr_slr.corpora.schema import did_you_mean
from kd_asr_slr.corpora.vocabulary import POLICIES, gloss_vocabulary
from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.hub_names import may_be_hub_name
from kd_asr_slr.models.auto import MODELS, build_model, load_model, takes_waveform
from kd_asr_slr.models.options import option_types
from kd_asr_slr.processing.auto import load_processor
from kd_asr_slr.processing.pieces import MODEL_SUFFIXES, PieceTokenizer
from kd_asr_slr.processing.sign import SignFeatureExtractor, SignProcessor
from kd_asr_slr.processing.speech import SpeechFeatureExtractor, SpeechProcessor
from kd_asr_slr.processing.tokenization import SPACE, LabelTokenizer, token_list
from kd_asr_slr.text import normalise
from kd_asr_slr.training.data import media_kind


def build_processor(model: ModelArguments, data: DataArguments, corpus: DatasetDict) -> Any:
    """The features and labels of a run.

    A model that starts from a run folder or hub name brings its own processor. Otherwise the labels are those of the
    whole train split (whatever `train_speakers` says, so that speaker teachers share them), or of `vocabulary`; the
    features follow from the corpus and the model, and statistics of raw features are fitted on the train split.

    Raises:
        UserError: if features and corpus do not belong together, or the vocabulary cannot be read.
    """
    if model.model not in MODELS:
        _check_place(model.model)
        return load_processor(model.model, revision=model.model_revision)
    tokenizer = build_tokenizer(model, data, corpus)
    options = as_dict(model.feature_options)
    if media_kind(corpus) == "audio":
        kind = model.features or ("waveform" if takes_waveform(model.model) else "log_mel")
        return SpeechProcessor(_extractor(SpeechFeatureExtractor, {"kind": kind, **options}), tokenizer)
    if takes_waveform(model.model):
        raise UserError(f"model '{model.model}' takes audio and this corpus has features", fix="set --model bilstm")
    extractor = _extractor(SignFeatureExtractor, {"layout": model.features or "raw", **options})
    if extractor.needs_fitting:
        extractor.fit(read_features(path) for path in corpus[data.train_split]["features"])
    return SignProcessor(extractor, tokenizer)


def build_tokenizer(model: ModelArguments, data: DataArguments, corpus: DatasetDict) -> LabelTokenizer:
    """The labels of a run: from a run folder, a SentencePiece model, a word list, a gloss policy, or the train split.

    Raises:
        UserError: if `vocabulary` is neither a run folder, nor a SentencePiece model or readable word list, nor a
            policy that fits the texts; or if the pieces asked for cannot be made.
    """
    specials = MODELS[model.model].has_decoder
    if model.vocabulary is None:
        texts = corpus[data.train_split]["text"]
    elif model.vocabulary in POLICIES:
        texts = gloss_vocabulary(corpus, model.vocabulary, data.normaliser, data.train_split)
    elif Path(model.vocabulary).is_dir():
        return own_tokenizer(load_processor(model.vocabulary).tokenizer, model.vocabulary)
    elif Path(model.vocabulary).suffix in MODEL_SUFFIXES and Path(model.vocabulary).is_file():
        return _given_pieces(model, model.vocabulary, specials)
    elif Path(model.vocabulary).is_file():
        texts = read_word_list(Path(model.vocabulary), data.normaliser)
    else:
        raise UserError(
            f"there is no vocabulary {model.vocabulary}{did_you_mean(model.vocabulary, POLICIES)}",
            expected=f"a run folder, a word list, a SentencePiece .model, or one of {', '.join(POLICIES)}",
        )
    if model.tokenizer_kind == "pieces":
        if model.vocabulary_size is None:
            raise UserError("pieces are to be trained and their number is missing", fix="set --vocabulary_size N")
        return PieceTokenizer.from_texts(texts, model.vocabulary_size, model.piece_algorithm, specials)
    return LabelTokenizer.from_texts(texts, kind=model.tokenizer_kind, decoder_specials=specials)


def _given_pieces(model: ModelArguments, path: str, specials: bool) -> PieceTokenizer:
    """The pieces of a SentencePiece model; what the arguments say besides must not contradict it."""
    if model.tokenizer_kind == "characters":
        raise UserError(
            f"tokenizer_kind is characters and {model.vocabulary} holds pieces", fix="leave one of them out"
        )
    tokenizer = PieceTokenizer.from_file(path, specials)
    size = len(tokenizer.tokens)
    if model.vocabulary_size not in (None, size):
        raise UserError(
            f"vocabulary_size is {model.vocabulary_size}; {model.vocabulary} makes {size} tokens, blank and special "
            "tokens included",
            fix="leave out --vocabulary_size",
        )
    return tokenizer


def own_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: str) -> LabelTokenizer:
    """The labels of another run; those of a transformers network that spells, as a list of characters.

    Raises:
        UserError: if they are pieces of words.
    """
    if isinstance(tokenizer, LabelTokenizer):
        return tokenizer
    tokens, blank_id = token_list(tokenizer)
    specials = {"pad_token": tokens[blank_id], "bos_token": tokenizer.bos_token, "eos_token": tokenizer.eos_token}
    pieces = [token for token in tokens if len(token) > 1 and token not in (*specials.values(), tokenizer.unk_token)]
    if pieces or SPACE not in tokens:
        raise UserError(
            f"the labels of {folder} are not characters ({', '.join(pieces[:3]) or f'no {SPACE}'})",
            expected=f"words, pieces of ours, or characters with '{SPACE}' between words",
            fix="take the vocabulary of another run",
        )
    return LabelTokenizer(token_sequence=tokens, kind="characters", **specials)


def _check_place(model: str) -> None:
    """Refuse what is neither a model type, nor a folder, nor can be OWNER/NAME on the hub."""
    if Path(model).exists() or may_be_hub_name(model):
        return
    close = difflib.get_close_matches(model, MODELS, n=1)
    raise UserError(
        f"there is no model '{model}'" + (f" (did you mean '{close[0]}'?)" if close else ""),
        expected=f"{', '.join(MODELS)}, the folder of a finished run, or OWNER/NAME on the hub",
        fix="correct --model, or train that run first",
    )


def read_word_list(path: Path, normaliser: str) -> list[str]:
    """The lines of a word list, normalised as the transcripts are.

    Raises:
        UserError: if it cannot be read, or has no label.
    """
    try:
        lines = [normalise(line, normaliser) for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the word list {path} cannot be read ({error})", expected="UTF-8 text") from error
    if not any(line.strip() for line in lines):
        raise UserError(f"the word list {path} has no label", expected="one label a line")
    return lines


def build_student(model: ModelArguments, processor: Any, seed: int) -> PreTrainedModel:
    """The network of a run, from the seed alone.

    Args:
        model: which network, from which weights.
        processor: its features and labels.
        seed: of its initial weights.

    Raises:
        UserError: for an unknown option, weights that cannot be read, or labels that do not fit the weights.
    """
    set_seed(seed)
    options = as_dict(model.model_options)
    if model.model not in MODELS:
        if options:
            raise UserError(
                f"model_options {sorted(options)} are given, but the model starts from {model.model}",
                fix="leave out --model_options, or name a model type to build",
            )
        return load_model(model.model, revision=model.model_revision)
    tokenizer = processor.tokenizer
    fixed = {"vocab_size": len(tokenizer.tokens), "pad_token_id": tokenizer.blank_id}
    if MODELS[model.model].has_decoder:
        fixed |= {"bos_token_id": tokenizer.bos_id, "eos_token_id": tokenizer.eos_id}
    if "sampling_rate" in option_types(MODELS[model.model].config_class):  # its own features are of that rate
        fixed["sampling_rate"] = processor.sampling_rate
    if not takes_waveform(model.model):
        fixed["input_size"] = processor.feature_size
        fixed |= _streams(MODELS[model.model].config_class, processor)
    return build_model(model.model, options, pretrained=model.pretrained_encoder, **fixed)


def _streams(config: type[PreTrainedConfig], processor: Any) -> dict[str, dict[str, list[int]]]:
    """The streams of the features as an option, where the network reads streams and the features have any."""
    streams = getattr(processor.feature_extractor, "streams", None)
    if "stream_slices" not in option_types(config) or not streams:
        return {}
    return {"stream_slices": {name: [int(start), int(stop)] for name, (start, stop) in streams.items()}}


def _extractor(cls: type, options: dict[str, Any]) -> Any:
    """A feature extractor; transformers would swallow an option it does not know."""
    known = [name for name, item in inspect.signature(cls).parameters.items() if item.kind is not item.VAR_KEYWORD]
    unknown = [name for name in options if name not in known]
    raise_all(
        [f"unknown option '{name}'; expected one of {', '.join(known)}" for name in unknown], "the feature options"
    )
    return cls(**options)
