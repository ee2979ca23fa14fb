"""Options that the toolkit's own CTC networks share."""

from __future__ import annotations

import math
from typing import Any

from transformers import PreTrainedConfig

from kd_asr_slr.errors import raise_all
from kd_asr_slr.models.parts.front import FrontStep, read_front

STRIDES = (1, 2, 4)


class RecogniserConfig(PreTrainedConfig):
    """Shape of a `CtcRecogniser`, whatever embeds its frames.

    Args:
        input_size: F, features an input frame.
        hidden_size: units per direction; hidden states are twice as wide where there are two.
        num_layers: LSTM layers.
        bidirectional: false: the layers read ahead only, so that the network can follow a stream (`models.streaming`).
        dropout: probability, on the embedded frames and on the output of every layer, convolutions included.
        stride: input frames per output frame: 1, 2 or 4 (with a `front`: what its poolings make of it).
        conv_layers: temporal convolutions before the LSTM; default: as few as the stride needs (none at stride 1, one
            at 2, two at 4). The first of them have stride 2 each, the others stride 1.
        conv_kernel: frames a convolution sees, an odd number.
        front: convolutions and poolings instead of those three, as text: "k5p2k5p2" is two convolutions over 5 frames,
            each followed by a pooling over 2, the field's proven front (stride 4).
        auxiliary_classifier: a second CTC classifier, on the convolutions: `auxiliary_logits`, for the losses
            `auxiliary_ctc` and `auxiliary_kd`.
        shared_classifier: the second classifier is the first, weights and all.
        intermediate_layer: a second CTC classifier, with a LayerNorm of its own, after so many bidirectional layers:
            `auxiliary_logits`, for the same two losses (self-distillation inside the encoder); 0: none.
        normalise_classifier: the weights of every class are divided by their L2 norm, and there is no bias.
        classifier_scale: of the logits of a normalised classifier.
        vocab_size: V, labels and the blank.
        pad_token_id: index of the blank.

    Raises:
        UserError: for values that no network can be built from, all of them at once.

    Source:
        Min et al. 2021 (2104.02330) for the front and the auxiliary classifier; Hao et al. 2021 (ICCV) for the shared,
        normalised one; Kim et al. 2024, "Guiding frame-level CTC alignments using self-knowledge distillation"
        (2406.07909) for the intermediate one.
    """

    has_decoder = False

    input_size: int = 80
    hidden_size: int = 256
    num_layers: int = 4
    bidirectional: bool = True
    dropout: float = 0.3
    stride: int = 1
    conv_layers: int | None = None
    conv_kernel: int = 5
    front: str | None = None
    auxiliary_classifier: bool = False
    shared_classifier: bool = False
    intermediate_layer: int = 0
    normalise_classifier: bool = False
    classifier_scale: float = 1.0
    vocab_size: int = 32
    pad_token_id: int = 0

    def __post_init__(self, **kwargs: Any) -> None:
        raise_all(self.problems(), f"the configuration of the {self.model_type}")
        if self.front is not None:
            self.stride = _stride_of(self.front)
        elif self.conv_layers is None:
            self.conv_layers = self.halvings
        super().__post_init__(**kwargs)

    @property
    def subsampling(self) -> int:
        """Input frames per output frame."""
        return self.stride

    @property
    def width(self) -> int:
        """D, of hidden states."""
        return self.hidden_size * (2 if self.bidirectional else 1)

    @property
    def halvings(self) -> int:
        """Convolutions of stride 2, without a `front`."""
        return STRIDES.index(self.stride)

    @property
    def front_steps(self) -> list[FrontStep]:
        """The temporal convolutions."""
        if self.front is not None:
            return read_front(self.front)
        layers = self.halvings if self.conv_layers is None else self.conv_layers
        strides = [2] * self.halvings + [1] * (layers - self.halvings)
        return [FrontStep(self.conv_kernel, stride) for stride in strides]

    def problems(self) -> list[str]:
        """Sentences about values that cannot be used."""
        names = ("input_size", "hidden_size", "num_layers", "vocab_size")
        found = [f"{name} is {getattr(self, name)}; expected 1 or more" for name in names if getattr(self, name) < 1]
        if not 0 <= self.dropout < 1:
            found.append(f"dropout is {self.dropout}; expected 0 or more and less than 1")
        found += self._stride_problems() if self.front is None else self._front_problems(self.front)
        found += self._classifier_problems()
        if not 0 <= self.pad_token_id < max(self.vocab_size, 1):
            found.append(f"pad_token_id (the blank) is {self.pad_token_id}; expected 0 to {self.vocab_size - 1}")
        return found

    def _stride_problems(self) -> list[str]:
        found = []
        if self.conv_kernel < 1 or self.conv_kernel % 2 == 0:
            found.append(f"conv_kernel is {self.conv_kernel}; expected an odd number")
        if self.stride not in STRIDES:
            found.append(f"stride is {self.stride}; expected 1, 2 or 4")
        elif self.conv_layers is not None and self.conv_layers < self.halvings:
            found.append(f"conv_layers is {self.conv_layers}; stride {self.stride} takes {self.halvings} or more")
        return found

    def _front_problems(self, front: str) -> list[str]:
        if self.conv_layers is not None:
            return [f"conv_layers is {self.conv_layers} and front is '{front}'; give one of the two"]
        try:
            stride = _stride_of(front)
        except ValueError as error:
            return [f"front is '{front}'; expected {error}"]
        default = type(self).stride
        if self.stride not in (default, stride):
            return [f"stride is {self.stride} and the poolings of front '{front}' make it {stride}; leave it out"]
        return []

    def _classifier_problems(self) -> list[str]:
        found = []
        convolves = self.front is not None or self.conv_layers or self.stride > 1
        if self.auxiliary_classifier and not convolves:
            found.append("auxiliary_classifier reads temporal convolutions, and there are none; set front: k5p2k5p2")
        if self.shared_classifier and not self.auxiliary_classifier:
            found.append("shared_classifier shares with the auxiliary one; set auxiliary_classifier: true")
        if self.auxiliary_classifier and self.intermediate_layer:
            found.append("auxiliary_classifier and intermediate_layer are both given; a network has one of the two")
        found += intermediate_problems(self.intermediate_layer, "num_layers", self.num_layers)
        if not 0 < self.classifier_scale < math.inf:
            found.append(f"classifier_scale is {self.classifier_scale}; expected more than 0")
        return found


def intermediate_problems(layer: int, option: str, layers: int) -> list[str]:
    """Sentences about a classifier after so many of the encoder's layers; 0 stands for none.

    Args:
        layer: the layers below it.
        option: the name of the option that says how many layers there are.
        layers: its value.
    """
    if 0 <= layer < max(layers, 1):
        return []
    return [
        f"intermediate_layer is {layer} and {option} is {layers}; expected 0 (none) to {max(layers, 1) - 1}, "
        "the last layer has the main classifier"
    ]


def _stride_of(front: str) -> int:
    """Input frames per output frame of such convolutions and poolings."""
    return math.prod([step.pool for step in read_front(front)])
