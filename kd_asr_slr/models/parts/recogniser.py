"""What every CTC network of the toolkit does with embedded frames. Dimension legend: see `kd_asr_slr.outputs`."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init

from kd_asr_slr.models.parts.classifier import build_classifier, build_intermediate
from kd_asr_slr.models.parts.configuration import RecogniserConfig
from kd_asr_slr.models.parts.ctc_loss import ctc_label_loss
from kd_asr_slr.models.parts.frames import blank_padding, divide_up, input_lengths, reversal, silence
from kd_asr_slr.models.parts.front import ConvolutionFront
from kd_asr_slr.models.parts.recurrent import BiLstmLayer, LstmLayer
from kd_asr_slr.models.parts.streams import GatedFusion
from kd_asr_slr.outputs import CTCOutput


class CtcRecogniser(PreTrainedModel):
    """Embedded frames, optional temporal convolutions, LSTM layers with residuals, CTC classifier.

    A subclass says in `embed` how a frame becomes D = `config.width` values, and calls `build_recogniser` and then
    `post_init` at the end of its `__init__`.

    `hidden_states[i]` [B, T', D] is the output of LSTM layer i after its residual, i from 0: there are
    `num_layers` of them, the last is what the CTC head reads, and the embedded frames are not among them. Padding
    frames of logits and hidden states are finite and mean nothing; those of the logits are blanks in eval mode. With
    `auxiliary_classifier` the output also has `auxiliary_logits` [B, T', V], of the convolutions alone; with
    `intermediate_layer` n those of the first n layers.
    """

    config: RecogniserConfig
    main_input_name = "input_features"
    accepts_loss_kwargs = False
    embeds_frames_alone = (
        False  # true where `embed` looks at no neighbours, so that frames can be embedded as they come
    )

    def build_recogniser(self) -> None:
        """The layers behind the embedding."""
        config = self.config
        width, classes = config.width, config.vocab_size
        normalised, scale = config.normalise_classifier, config.classifier_scale
        self.front = ConvolutionFront(width, config.front_steps, config.dropout)
        layer = BiLstmLayer if config.bidirectional else LstmLayer
        self.layers = nn.ModuleList(layer(width, config.hidden_size) for _ in range(config.num_layers))
        self.dropout = nn.Dropout(config.dropout)
        self.head = build_classifier(width, classes, normalised, scale)
        separate = config.auxiliary_classifier and not config.shared_classifier
        self.auxiliary_head = build_classifier(width, classes, normalised, scale) if separate else None
        if config.intermediate_layer:
            own = build_classifier(width, classes, normalised, scale)
            self.auxiliary_head = build_intermediate(width, own)

    def embed(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Frames [B, T, F], zeros in the padding, and their lengths [B]: [B, T, D], anything in the padding."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it embeds a frame")

    def forward(
        self,
        input_features: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> CTCOutput | tuple[Any, ...]:
        """Recognise a batch.

        Args:
            input_features: [B, T, F]; what stands in the padding has no influence, be it NaN.
            attention_mask: [B, T], 1 at valid frames, padding at the end; default: everything is valid.
            labels: [B, U], padded with -100; with them the output has a `loss`.
            output_hidden_states: also give the hidden state of every layer.
            return_dict: false for a plain tuple.
        """
        lengths = input_lengths(input_features, attention_mask)
        embedded = self.embed(silence(input_features, lengths), lengths)  # [B, T, D]
        hidden, lengths = self.front(self.dropout(embedded), lengths)  # [B, T', D]
        states = self._encode(hidden, lengths)
        logits = self.head(states[-1])  # [B, T', V]
        if attention_mask is not None and not self.training:
            logits = blank_padding(logits, lengths, self.config.pad_token_id)
        loss = None if labels is None else ctc_label_loss(logits, lengths, labels, self.config.pad_token_id).mean()
        wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        layer = self.config.intermediate_layer
        auxiliary = self._auxiliary_logits(states[layer - 1] if layer else hidden)
        output = CTCOutput(loss, logits, lengths, tuple(states) if wanted else None, auxiliary)
        return output if return_dict is not False else output.to_tuple()

    def output_lengths(self, input_lengths: torch.Tensor) -> torch.Tensor:
        """Output frames of utterances with so many input frames: ceil(T / stride)."""
        return divide_up(input_lengths, self.config.stride)

    def _encode(self, hidden: torch.Tensor, lengths: torch.Tensor) -> list[torch.Tensor]:
        index = reversal(lengths, hidden.shape[1])
        states = []
        for layer in self.layers:
            hidden = hidden + self.dropout(layer(hidden, index))
            states.append(hidden)
        return states

    def _auxiliary_logits(self, hidden: torch.Tensor) -> torch.Tensor | None:
        if not (self.config.auxiliary_classifier or self.config.intermediate_layer):
            return None
        return (self.head if self.auxiliary_head is None else self.auxiliary_head)(hidden)  # [B, T', V]

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv1d):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):  # depthwise: Xavier's bound would count channels that it does not join
            init.kaiming_uniform_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LSTM):
            bound = 1 / math.sqrt(module.hidden_size)
            for parameter in module.parameters():
                init.uniform_(parameter, -bound, bound)
        elif isinstance(module, GatedFusion):
            module.reset_gates()
        else:
            super()._init_weights(module)
