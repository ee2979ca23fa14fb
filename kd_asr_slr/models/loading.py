"""Reading a network from a folder or the hub, with every way it can go wrong said in one sentence."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import CONFIG_MAPPING, MODEL_FOR_CTC_MAPPING, AutoConfig, AutoModelForCTC, PreTrainedModel
from transformers.utils import cached_file
from transformers.utils.hub import extract_commit_hash

from kd_asr_slr.errors import UserError
from kd_asr_slr.hub_names import HUB_NAME, split_revision

WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
NO_WEIGHTS = {"training_args.bin", "optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state.pth"}  # of the trainer
# Replaces masked frames in training only, and is absent from checkpoints that were trained without masking.
OPTIONAL_WEIGHT = "masked_spec_embed"
LISTED = 5
EXPECTED = "a folder that save_pretrained wrote (config.json, model.safetensors), or a name on the hub"


def read_model(path_or_name: str, revision: str | None = None) -> PreTrainedModel:
    """See `models.auto.load_model`.

    Raises:
        UserError: as there.
    """
    path_or_name, revision = split_revision(path_or_name, revision)
    folder = Path(path_or_name)
    if folder.exists():
        _check_folder(folder)
    elif not HUB_NAME.fullmatch(path_or_name):
        raise UserError(f"there is no model folder {path_or_name}", expected=EXPECTED)
    model, info = _from_pretrained(path_or_name, revision)
    _check_complete(path_or_name, info)
    _check_finite(path_or_name, model)
    return model


def commit_of(path_or_name: str, revision: str | None = None) -> str | None:
    """The commit that a name on the hub stands for now, as it was downloaded; None for a folder."""
    name, revision = split_revision(path_or_name, revision)
    if Path(name).exists():
        return None
    return extract_commit_hash(cached_file(name, "config.json", revision=revision), None)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise UserError(f"{folder} is a file", expected=EXPECTED, fix="give the folder it stands in")
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} has no config.json", expected=EXPECTED, fix="give the folder of a finished run")
    _check_model_type(folder / "config.json")
    if any((folder / name).is_file() for name in WEIGHTS):
        return
    _refuse_pickles(str(folder), (file.name for file in folder.iterdir()))
    raise UserError(f"{folder} has a config.json and no weights", expected="model.safetensors")


def _refuse_pickles(place: str, files: Iterable[str]) -> None:
    pickled = sorted({file for file in files for pattern in PICKLED if PurePath(file).match(pattern)} - NO_WEIGHTS)
    if pickled:
        raise UserError(
            f"{place} has its weights as {pickled[0]}, a pickle, which can run code when it is read",
            expected="model.safetensors",
            fix="convert weights that you trust: load them in transformers and call save_pretrained",
        )


def _refuse_pickled(name: str, revision: str | None) -> None:
    """Refuse a name on the hub that has its weights as pickles only, before transformers asks a service of the hub to
    convert them.
    """
    from huggingface_hub import HfApi

    if Path(name).exists():
        return
    try:
        info = HfApi().model_info(name, revision=revision)
    except Exception:  # whatever it is, reading the weights meets it too and says so
        return
    files = [file.rfilename for file in info.siblings or []]
    if not any(file in WEIGHTS for file in files):
        _refuse_pickles(name, files)


def _check_model_type(file: Path) -> None:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is no JSON ({error})", expected=EXPECTED) from error
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind not in CONFIG_MAPPING:
        raise UserError(f"{file} has the unknown model_type {kind!r}", expected=", ".join(_ctc_types()))


def _from_pretrained(path_or_name: str, revision: str | None) -> tuple[PreTrainedModel, dict[str, Any]]:
    try:
        # Code beside the weights is never run, and nobody is asked at the terminal whether it should be.
        config = AutoConfig.from_pretrained(path_or_name, revision=revision, trust_remote_code=False)
        if type(config) not in MODEL_FOR_CTC_MAPPING:
            raise UserError(
                f"{path_or_name} is a {config.model_type}, no CTC network", expected=", ".join(_ctc_types())
            )
        _refuse_pickled(path_or_name, revision)
        return AutoModelForCTC.from_pretrained(
            path_or_name,
            config=config,
            revision=revision,
            trust_remote_code=False,
            use_safetensors=True,
            # Mismatches are reported with all other problems, instead of transformers' own RuntimeError.
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
    except SafetensorError as error:
        raise UserError(f"the weights of {path_or_name} are damaged ({error})", fix="copy them again") from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"the model {path_or_name} cannot be read: {_first_sentence(error)}",
            expected=EXPECTED,
            fix="check the name; without network, download it before and give the folder",
        ) from error


def _check_complete(name: str, info: dict[str, Any]) -> None:
    problems = [f"{key} is missing" for key in sorted(info["missing_keys"]) if not key.endswith(OPTIONAL_WEIGHT)]
    problems += [
        f"{key} is {list(found)}, not {list(wanted)}" for key, found, wanted in sorted(info["mismatched_keys"])
    ]
    problems += list(info["error_msgs"])
    if problems:
        more = f" and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
        raise UserError(
            f"the weights of {name} do not fill the network: {'; '.join(problems[:LISTED])}{more}",
            expected="a trained CTC network",
            fix="fine-tune it for CTC first, or give another one",
        )


def _check_finite(name: str, model: PreTrainedModel) -> None:
    broken = [key for key, value in model.state_dict().items() if value.is_floating_point() and not _is_finite(value)]
    if broken:
        raise UserError(
            f"the weights of {name} have NaN or infinity in {broken[0]} ({len(broken)} in all)",
            expected="finite weights",
            fix="take an earlier checkpoint of that training",
        )


def _is_finite(value: torch.Tensor) -> bool:
    # A sum is finite where all of its terms are (or overflows, then look closer), and holds no mask of the same size.
    return bool(value.sum().isfinite()) or bool(value.isfinite().all())


def _ctc_types() -> list[str]:
    return sorted(config.model_type for config in MODEL_FOR_CTC_MAPPING)


def _first_sentence(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
