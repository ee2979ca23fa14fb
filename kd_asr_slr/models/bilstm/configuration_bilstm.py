"""Configuration of the bidirectional LSTM."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

from kd_asr_slr.errors import raise_all

STRIDES = (1, 2, 4)


class BiLstmConfig(PreTrainedConfig):
    """Shape of a `BiLstmForCTC`.

    Args:
        input_size: F, features an input frame.
        hidden_size: units per direction; hidden states are twice as wide.
        num_layers: bidirectional layers.
        dropout: probability, on the projected input and on the output of every layer, convolutions included.
        stride: input frames per output frame: 1, 2 or 4.
        conv_layers: temporal convolutions before the LSTM; default: as few as the stride needs (none at stride 1, one
            at 2, two at 4). The first of them have stride 2 each, the others stride 1.
        conv_kernel: frames a convolution sees, an odd number.
        vocab_size: V, labels and the blank.
        pad_token_id: index of the blank.

    Raises:
        UserError: for values that no network can be built from, all of them at once.

    Example:
        >>> BiLstmConfig(input_size=80, hidden_size=256, num_layers=4, stride=4, vocab_size=30).subsampling
        4
    """

    model_type = "bilstm_ctc"
    has_decoder = False

    input_size: int = 80
    hidden_size: int = 256
    num_layers: int = 4
    dropout: float = 0.3
    stride: int = 1
    conv_layers: int | None = None
    conv_kernel: int = 5
    vocab_size: int = 32
    pad_token_id: int = 0

    def __post_init__(self, **kwargs: Any) -> None:
        raise_all(self.problems(), "the configuration of the bilstm")
        if self.conv_layers is None:
            self.conv_layers = self.halvings
        super().__post_init__(**kwargs)

    @property
    def subsampling(self) -> int:
        """Input frames per output frame."""
        return self.stride

    @property
    def halvings(self) -> int:
        """Convolutions of stride 2."""
        return STRIDES.index(self.stride)

    def problems(self) -> list[str]:
        """Sentences about values that cannot be used."""
        found = []
        for name in ("input_size", "hidden_size", "num_layers", "vocab_size"):
            if getattr(self, name) < 1:
                found.append(f"{name} is {getattr(self, name)}; expected 1 or more")
        if not 0 <= self.dropout < 1:
            found.append(f"dropout is {self.dropout}; expected 0 or more and less than 1")
        if self.conv_kernel < 1 or self.conv_kernel % 2 == 0:
            found.append(f"conv_kernel is {self.conv_kernel}; expected an odd number")
        if self.stride not in STRIDES:
            found.append(f"stride is {self.stride}; expected 1, 2 or 4")
        elif self.conv_layers is not None and self.conv_layers < self.halvings:
            found.append(f"conv_layers is {self.conv_layers}; stride {self.stride} takes {self.halvings} or more")
        if not 0 <= self.pad_token_id < max(self.vocab_size, 1):
            found.append(f"pad_token_id (the blank) is {self.pad_token_id}; expected 0 to {self.vocab_size - 1}")
        return found
