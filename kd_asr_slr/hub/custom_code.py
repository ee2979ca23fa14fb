"""The code of a saved model and its processor beside them, so that transformers loads them without this package.

Source: transformers, "Customizing models": `auto_map` in the saved configurations, `trust_remote_code=True` to load.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kd_asr_slr.files import read_json, write_json, write_text
from kd_asr_slr.hub.travelling import flat_name, travelling_files
from kd_asr_slr.models.auto import MODELS
from kd_asr_slr.processing.auto import PROCESSORS, TOKENIZERS

CONFIG, PROCESSOR, TOKENIZER = "config.json", "processor_config.json", "tokenizer_config.json"
EXTRACTOR = "feature_extractor"  # its settings stand within those of the processor


def write_custom_code(folder: Path) -> list[Path]:
    """Write the code that a saved model and processor of this package need, and name it in their configurations.

    Nothing happens for models and processors of transformers itself, which need none.

    Args:
        folder: where `save_pretrained` of both has written.

    Returns:
        The Python files.

    Example:
        >>> write_custom_code(Path("runs/student"))
        >>> AutoModelForCTC.from_pretrained("runs/student", trust_remote_code=True)
    """
    changed: dict[str, dict[str, Any]] = {}
    classes: list[type] = []
    for name, name_code in ((CONFIG, _model_code), (PROCESSOR, _processor_code), (TOKENIZER, _tokenizer_code)):
        settings = read_json(folder / name) if (folder / name).is_file() else {}
        found = name_code(settings)
        if found:
            changed[name] = settings
            classes += found
    files = travelling_files({item.__module__ for item in classes})
    # The code first: a configuration that names missing files would be worse than one that names none.
    written = [write_text(folder / name, source) for name, source in files.items()]
    for name, settings in changed.items():
        write_json(folder / name, settings)
    return written


def _model_code(settings: dict[str, Any]) -> list[type]:
    """Name the classes of a model in its configuration; they are returned."""
    for entry in MODELS.values():
        if settings.get("model_type") == entry.config_class.model_type:
            settings["auto_map"] = {
                "AutoConfig": _place(entry.config_class),
                "AutoModelForCTC": _place(entry.model_class),
            }
            return [entry.config_class, entry.model_class]
    return []


def _processor_code(settings: dict[str, Any]) -> list[type]:
    for extractor, processor in PROCESSORS.values():
        if settings.get("processor_class") == processor.__name__:
            places = {"AutoFeatureExtractor": _place(extractor), "AutoProcessor": _place(processor)}
            settings["auto_map"] = places
            settings.setdefault(EXTRACTOR, {})["auto_map"] = places
            return [extractor, processor]
    return []


def _tokenizer_code(settings: dict[str, Any]) -> list[type]:
    for tokenizer in TOKENIZERS:
        if settings.get("tokenizer_class") == tokenizer.__name__:
            settings["auto_map"] = {"AutoTokenizer": [_place(tokenizer), None]}
            return [tokenizer]
    return []


def _place(item: type) -> str:
    return f"{flat_name(item.__module__)}.{item.__name__}"
