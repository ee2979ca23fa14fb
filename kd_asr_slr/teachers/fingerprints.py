"""What tells one teacher from another: its weights, and the tokens it writes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save

from kd_asr_slr.errors import UserError


def fingerprint_of_weights(model: torch.nn.Module) -> str:
    """sha256 (16 digits) over names, types, shapes and values of a model's state, wherever the model stands.

    Example:
        >>> fingerprint_of_weights(torch.nn.Linear(2, 2)) == fingerprint_of_weights(torch.nn.Linear(2, 2))
        False
    """
    state = model.state_dict()
    return _hash_tensors((name, state[name]) for name in sorted(state))


def fingerprint_of_folder(folder: str | Path) -> str:
    """The same over the safetensors files of a saved model, without building it.

    It equals `fingerprint_of_weights` of the loaded model only where the file holds the state under the same names
    (tied weights are saved once), so compare folders with folders and models with models.

    Raises:
        UserError: if the folder holds no safetensors file.
    """
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        raise UserError(f"no .safetensors file in {folder}", expected="a folder written by save_pretrained")
    places: dict[str, Path] = {}
    for path in files:
        with safe_open(path, framework="pt") as opened:
            places |= dict.fromkeys(opened.keys(), path)
    return _hash_tensors((name, _read_tensor(places[name], name)) for name in sorted(places))


def _read_tensor(path: Path, name: str) -> torch.Tensor:
    with safe_open(path, framework="pt") as opened:
        return opened.get_tensor(name)


def _hash_tensors(named: Iterable[tuple[str, torch.Tensor]]) -> str:
    digest = hashlib.sha256()
    for name, tensor in named:
        digest.update(save({name: tensor.detach().cpu().contiguous()}))
    return digest.hexdigest()[:16]


def vocabulary_difference(
    tokens: Sequence[str], blank_id: int, other_tokens: Sequence[str], other_blank_id: int, name: str, other_name: str
) -> str | None:
    """One sentence naming the first difference of two token lists, or None where they are equal.

    Args:
        tokens: the one token list, in the order of the model's outputs.
        blank_id: index of its blank.
        other_tokens: the other list.
        other_blank_id: index of its blank.
        name: what to call the first one, e.g. "teacher F03".
        other_name: what to call the other one.

    Example:
        >>> vocabulary_difference(["-", "a"], 0, ["-", "b"], 0, "the teacher", "the student")
        "token 1 is 'a' in the teacher and 'b' in the student"
    """
    for index, (token, other) in enumerate(zip(tokens, other_tokens, strict=False)):
        if token != other:
            return f"token {index} is {token!r} in {name} and {other!r} in {other_name}"
    if len(tokens) != len(other_tokens):
        shorter, longer = sorted((tokens, other_tokens), key=len)
        return (
            f"{name} has {len(tokens)} tokens and {other_name} has {len(other_tokens)};"
            f" the first one that only the longer list has is {longer[len(shorter)]!r}"
        )
    if blank_id != other_blank_id:
        return f"the blank is token {blank_id} in {name} and token {other_blank_id} in {other_name}"
    return None
