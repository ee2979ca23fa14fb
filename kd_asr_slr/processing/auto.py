"""Load whatever processor lies beside a model. Importing this module registers ours with transformers' Auto classes."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoFeatureExtractor, AutoProcessor, AutoTokenizer, PreTrainedConfig

from kd_asr_slr.errors import UserError
from kd_asr_slr.hub_names import split_revision
from kd_asr_slr.processing.base import RecogniserProcessor, UtteranceExtractor
from kd_asr_slr.processing.foreign import ForeignProcessor, wrap_processor
from kd_asr_slr.processing.pieces import PieceTokenizer
from kd_asr_slr.processing.sign import SignFeatureExtractor, SignProcessor
from kd_asr_slr.processing.speech import SpeechFeatureExtractor, SpeechProcessor
from kd_asr_slr.processing.tokenization import LabelTokenizer

__all__ = ["PROCESSORS", "TOKENIZERS", "PieceTokenizer", "load_processor", "register_processors"]

# modality -> (feature extractor, processor)
PROCESSORS: dict[str, tuple[type[UtteranceExtractor], type[RecogniserProcessor]]] = {
    "speech": (SpeechFeatureExtractor, SpeechProcessor),
    "sign": (SignFeatureExtractor, SignProcessor),
}
TOKENIZERS: tuple[type[LabelTokenizer], ...] = (LabelTokenizer, PieceTokenizer)


def load_processor(folder_or_name: str | Path, revision: str | None = None) -> RecogniserProcessor | ForeignProcessor:
    """Load the processor of a saved model, ours or one of transformers. Code that lies beside it is never run.

    Args:
        folder_or_name: a folder that `save_pretrained` wrote, or a name on the hub, with or without "@REVISION".
        revision: commit or tag on the hub.

    Raises:
        UserError: if there is none, or it cannot be read.
    """
    name, revision = split_revision(str(folder_or_name), revision)
    options = {} if revision is None else {"revision": revision}
    try:
        processor = AutoProcessor.from_pretrained(name, trust_remote_code=False, **options)
    except UserError as error:
        raise UserError(f"the processor in '{folder_or_name}' cannot be used: {error}") from error
    except (OSError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if not Path(folder_or_name).exists():
            found = f"no processor in '{folder_or_name}': no such folder, and not found on the hub ({first_line})"
        else:
            found = f"no processor in '{folder_or_name}' ({first_line})"
        raise UserError(
            found, "a folder that a run saved", fix="check the path; a processor is saved beside its model"
        ) from error
    return wrap_processor(processor)


def register_processors() -> None:
    """Make the Auto classes know the processors and tokenizers of this package; harmless when called again.

    Here and not beside the classes, whose modules travel with a model: there they must not register themselves in
    somebody else's program.
    """
    for extractor, processor in PROCESSORS.values():
        key = _key_of(processor)
        AutoFeatureExtractor.register(key, extractor, exist_ok=True)
        AutoProcessor.register(key, processor, exist_ok=True)
    for tokenizer in TOKENIZERS:
        AutoTokenizer.register(_key_of(tokenizer), tokenizer_class=tokenizer, exist_ok=True)


def _key_of(registered: type) -> type[PreTrainedConfig]:
    """A configuration class to register a class under, since the registries have such keys; no model has it."""
    name = registered.__name__
    return type(f"_{name}Key", (PreTrainedConfig,), {"model_type": f"kd_asr_slr_{name.lower()}"})


register_processors()
