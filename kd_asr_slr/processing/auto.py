"""Load whatever processor lies beside a model. Importing this module registers ours with transformers' Auto classes."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoProcessor

from kd_asr_slr.errors import UserError
from kd_asr_slr.processing.base import RecogniserProcessor
from kd_asr_slr.processing.foreign import ForeignProcessor, wrap_processor
from kd_asr_slr.processing.pieces import PieceTokenizer
from kd_asr_slr.processing.sign import SignFeatureExtractor, SignProcessor
from kd_asr_slr.processing.speech import SpeechFeatureExtractor, SpeechProcessor

__all__ = ["PROCESSORS", "PieceTokenizer", "load_processor"]

# modality -> (feature extractor, processor)
PROCESSORS: dict[str, tuple[type, type[RecogniserProcessor]]] = {
    "speech": (SpeechFeatureExtractor, SpeechProcessor),
    "sign": (SignFeatureExtractor, SignProcessor),
}


def load_processor(folder_or_name: str | Path, revision: str | None = None) -> RecogniserProcessor | ForeignProcessor:
    """Load the processor of a saved model, ours or one of transformers.

    Args:
        folder_or_name: a folder that `save_pretrained` wrote, or a name on the hub.
        revision: commit or tag on the hub.

    Raises:
        UserError: if there is none, or it cannot be read.
    """
    options = {} if revision is None else {"revision": revision}
    try:
        processor = AutoProcessor.from_pretrained(str(folder_or_name), **options)
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
