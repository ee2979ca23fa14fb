"""A batch through any CTC network: the toolkit's own, and every `*ForCTC` of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from kd_asr_slr.errors import UserError
from kd_asr_slr.outputs import CTCOutput

# transformers' names for "output frames of so many input frames or samples", and ours.
LENGTH_FUNCTIONS = ("output_lengths", "_get_feat_extract_output_lengths", "_get_subsampling_output_length")
# A multiple of every usual product of strides and hop, small enough that twice as much is exact in float32.
PROBE_LENGTH = 2**10 * 3**2 * 5**3 * 7


def unwrap(model: Any) -> Any:
    """The network inside of DistributedDataParallel or torch.compile, for its configuration and length functions.

    Never call what this returns where gradients must reach the other processes: call the wrapper.
    """
    while not isinstance(model, PreTrainedModel):
        inner = next((getattr(model, name) for name in ("module", "_orig_mod") if hasattr(model, name)), None)
        if inner is None:
            return model
        model = inner
    return model


def run_ctc(
    model: nn.Module, batch: Mapping[str, Any], output_hidden_states: bool = False, view: str | None = None
) -> CTCOutput:
    """Call a network, wrapped or not, with what it takes of a batch.

    Labels are handed only to networks with a decoder (`config.has_decoder`), for teacher forcing. Networks that
    normalise their convolutions over time (`feat_extract_norm == "group"`: wav2vec2, HuBERT and WavLM in their base
    size) were trained without an attention mask and get none. Where padding would change the output (there, and in SEW,
    which pools over the end of an utterance), utterances of different lengths go through one by one in eval mode; in
    training they are padded with zeros, as transformers does.

    Args:
        model: the toolkit's own network or a `*ForCTC` of transformers, possibly in DistributedDataParallel.
        batch: see `processing.collator`; padding is at the end.
        output_hidden_states: also give the hidden states. Of transformers' networks, index 0 is the input of the first
            layer and index i the output of layer i (SEW's at its pooled rate, not the output's); of ours see the class.
        view: fingerprint of the features to take from `batch["views"]`, instead of the batch's own.

    Returns:
        `CTCOutput`, or `HybridOutput` of a network with a decoder.

    Raises:
        UserError: if the batch has not what the network takes.
    """
    core = unwrap(model)
    name, values, mask = _input_of(core, batch, view)
    call = Call(model, name, output_hidden_states)
    if not hasattr(core, "output_lengths"):
        return _run_foreign(call, core, values, mask)
    labels = {"labels": batch.get("labels")} if getattr(core.config, "has_decoder", False) else {}
    return call(values, attention_mask=mask, **labels)


@dataclass(frozen=True)
class Call:
    """A network as it was handed over, the name of its input, and whether hidden states are wanted."""

    model: nn.Module
    name: str
    hidden: bool

    def __call__(self, values: torch.Tensor, **kwargs: Any) -> Any:
        return self.model(**{self.name: values}, output_hidden_states=self.hidden, return_dict=True, **kwargs)


def _run_foreign(call: Call, core: nn.Module, values: torch.Tensor, mask: torch.Tensor | None) -> CTCOutput:
    lengths = values.new_full(values.shape[:1], values.shape[1], dtype=torch.long) if mask is None else mask.sum(-1)
    if mask is not None:
        # transformers' feature encoders read over the end of an utterance and expect silence there.
        values = values.masked_fill(~mask.bool().view(mask.shape + (1,) * (values.dim() - 2)), 0.0)
    if call.model.training or not padding_matters(core) or bool((lengths == values.shape[1]).all()):
        output = call(values) if normalises_over_time(core) else call(values, attention_mask=mask)
    else:
        outputs = [call(row[None, :length]) for row, length in zip(values, lengths.tolist(), strict=True)]
        output = CTCOutput(
            logits=_join([output.logits for output in outputs]),
            hidden_states=_join_layers([output.hidden_states for output in outputs]) if call.hidden else None,
        )
    return CTCOutput(None, output.logits, lengths_after(core, lengths), output.hidden_states)


def lengths_after(model: nn.Module, input_lengths: torch.Tensor) -> torch.Tensor:
    """Output frames of utterances with so many input frames or samples, [B], by the network's own function.

    Raises:
        UserError: if the network has no such function under a known name.
    """
    core = unwrap(model)
    for owner in (core, getattr(core, "encoder", None)):
        for name in LENGTH_FUNCTIONS:
            if hasattr(owner, name):
                return getattr(owner, name)(input_lengths).to(torch.long).clamp(min=0)
    raise UserError(
        f"{type(core).__name__} does not say how long its output is", expected=f"one of {', '.join(LENGTH_FUNCTIONS)}"
    )


def frame_ratio(model: nn.Module) -> int:
    """Input frames (of a network that takes waveforms: samples) per output frame.

    Asked of the network's own length function, so that it holds whatever the configuration calls its strides.

    Example:
        >>> frame_ratio(Wav2Vec2ForCTC(Wav2Vec2Config()))
        320
    """
    shorter, longer = lengths_after(model, torch.tensor([PROBE_LENGTH, 2 * PROBE_LENGTH])).tolist()
    return round(PROBE_LENGTH / (longer - shorter))


def blank_of(model: nn.Module) -> int:
    """Index of the blank among the outputs; in transformers' CTC networks and ours it is the padding token.

    Raises:
        UserError: if the network's configuration names none.
    """
    core = unwrap(model)
    if core.config.pad_token_id is None:
        raise UserError(
            f"the configuration of {type(core).__name__} names no blank",
            expected="its index as pad_token_id",
            fix="set pad_token_id in config.json",
        )
    return core.config.pad_token_id


def normalises_over_time(core: nn.Module) -> bool:
    """Whether an unwrapped network has group norm over time in its convolutions, and wants no attention mask."""
    return getattr(core.config, "feat_extract_norm", None) == "group"


def padding_matters(core: nn.Module) -> bool:
    """Whether padding changes what an unwrapped network says of the valid frames."""
    return normalises_over_time(core) or getattr(core.config, "squeeze_factor", 1) > 1


def _input_of(core: Any, batch: Mapping[str, Any], view: str | None) -> tuple[str, torch.Tensor, torch.Tensor | None]:
    views = batch.get("views") or {}
    if view is not None and view not in views:
        raise ValueError(f"the batch has no view {view}; it has {sorted(views)}")
    inputs = batch if view is None else views[view]
    name = core.main_input_name
    if name not in inputs:
        given = sorted({"input_features", "input_values"} & set(inputs)) or ["neither waveforms nor features"]
        raise UserError(
            f"{type(core).__name__} takes {name} and the batch has {given[0]}",
            expected="the features the network was made for",
            fix="use the processor that was saved beside it",
        )
    return name, inputs[name], inputs.get("attention_mask")


def _join(pieces: list[torch.Tensor]) -> torch.Tensor:
    """[1, T_b, D] of each utterance, as one [B, T, D]."""
    return pad_sequence([piece[0] for piece in pieces], batch_first=True)


def _join_layers(utterances: list[tuple[torch.Tensor, ...]]) -> tuple[torch.Tensor, ...]:
    return tuple(_join(list(layer)) for layer in zip(*utterances, strict=True))
