"""Knowledge distillation for CTC and CTC + attention recognisers of speech and sign language."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kd_asr_slr.recognition import Recogniser, recognise

__all__ = ["Recogniser", "__version__", "recognise"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what recognises, and torch with it, when it is first asked for."""
    if name not in ("Recogniser", "recognise"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kd_asr_slr import recognition

    return getattr(recognition, name)
