"""NeMo's Conformer encoder with a CTC head and an attention decoder, as a transformers model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from kd_asr_slr.errors import UserError
from kd_asr_slr.models.nemo_hybrid.candidates import sequence_log_probs
from kd_asr_slr.models.nemo_hybrid.checkpoint import find_nemo_file, load_encoder_weights, read_nemo_file
from kd_asr_slr.models.nemo_hybrid.configuration_nemo_hybrid import NemoHybridConfig
from kd_asr_slr.models.nemo_hybrid.decoder import AttentionDecoder
from kd_asr_slr.models.nemo_hybrid.label_losses import decoder_label_loss, teacher_forcing
from kd_asr_slr.models.nemo_hybrid.nemo_parts import (
    build_encoder,
    build_masks,
    build_preprocessor,
    constant_buffers,
    reset_module,
)
from kd_asr_slr.models.parts.classifier import build_intermediate
from kd_asr_slr.models.parts.ctc_loss import ctc_label_loss
from kd_asr_slr.models.parts.frames import blank_padding
from kd_asr_slr.outputs import HybridOutput


class NemoHybridForASR(PreTrainedModel):
    """A hybrid CTC + attention recogniser on waveforms.

    `preprocessor` (NeMo's log-mel front end, no parameters) -> `masks` (SpecAugment, while training) -> `encoder`
    (NeMo's ConformerEncoder) -> `ctc_head` (a linear layer) and `decoder` (a Transformer decoder with cross attention).
    With `intermediate_layer` n a second CTC classifier, `intermediate_head`, reads Conformer block n; generation and
    scoring do not use it.

    Args:
        config: sizes.

    Example:
        >>> model = NemoHybridForASR(NemoHybridConfig(vocab_size=32, encoder_layers=2, d_model=32)).eval()
        >>> model(torch.randn(1, 16000)).logits.shape
        torch.Size([1, 25, 32])
    """

    config_class = NemoHybridConfig
    config: NemoHybridConfig
    main_input_name = "input_values"
    accepts_loss_kwargs = False  # the loss is a mean over utterances; the trainer divides by the accumulation steps
    _supports_sdpa = True
    _supports_flash_attn = True
    _keep_in_fp32_modules_strict = ["preprocessor"]

    def __init__(self, config: NemoHybridConfig) -> None:
        super().__init__(config)
        self.preprocessor = build_preprocessor(config)
        self.masks = build_masks(config)  # no parameters
        self.encoder = build_encoder(config)
        self.ctc_head = nn.Linear(config.d_model, config.vocab_size)
        self.decoder = AttentionDecoder(config.decoder_config())
        if config.intermediate_layer:
            self.intermediate_head = build_intermediate(config.d_model, nn.Linear(config.d_model, config.vocab_size))
        self._ddp_params_and_buffers_to_ignore = constant_buffers(self.preprocessor, self.encoder)
        self.post_init()

    @classmethod
    def from_nemo(cls, source: str | Path, **options: Any) -> NemoHybridForASR:
        """Build a model around the encoder of a pretrained NeMo model; CTC head and decoder start fresh.

        Args:
            source: a `.nemo` file, or a name on the hub such as `nvidia/stt_en_conformer_ctc_small`.
            options: fields of `NemoHybridConfig` that the file does not settle (vocab_size, decoder_layers, ...).

        Raises:
            UserError: if there is no such file, it is damaged, its encoder is of another kind, or an option
                contradicts it.

        Example:
            >>> model = NemoHybridForASR.from_nemo("stt_en_conformer_ctc_small.nemo", vocab_size=500)  # doctest: +SKIP
        """
        checkpoint = read_nemo_file(find_nemo_file(source))
        model = cls(NemoHybridConfig(**checkpoint.with_options(options)))
        load_encoder_weights(model, checkpoint)
        return model

    def output_lengths(self, input_lengths: torch.Tensor) -> torch.Tensor:
        """Valid output frames of waveforms.

        Args:
            input_lengths: [B], valid samples.

        Returns:
            [B], int64.
        """
        lengths = torch.div(input_lengths, self.config.hop_length, rounding_mode="floor")
        for _ in range(self.config.subsampling_factor.bit_length() - 1):
            lengths = torch.div(lengths + 1, 2, rounding_mode="floor")  # a convolution of stride 2 that rounds up
        return lengths.long()

    def encode(
        self, input_values: torch.Tensor, attention_mask: torch.Tensor | None = None, keep_layers: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...] | None]:
        """Run the front end and the encoder.

        Args:
            input_values: [B, S], waveforms at `config.sampling_rate`.
            attention_mask: [B, S], 1 on valid samples; all are valid where it is None.
            keep_layers: whether to return every layer's output too.

        Returns:
            frames [B, T, D], their lengths [B], and one [B, T, D] per layer or None.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_values, dtype=torch.long)
        waveforms = input_values.float().masked_fill(attention_mask == 0, 0.0)
        features, lengths = self.preprocessor(input_signal=waveforms, length=attention_mask.sum(-1))  # [B, F, frames]
        if self.masks is not None and self.training:
            features = self.masks(input_spec=features, length=lengths)
        layers: list[torch.Tensor] = []
        tapped = list(self.encoder.get_submodule("layers").children()) if keep_layers else []
        hooks = [layer.register_forward_hook(lambda _module, _inputs, out: layers.append(out)) for layer in tapped]
        try:
            frames, lengths = self.encoder(audio_signal=features.to(self.ctc_head.weight.dtype), length=lengths)
        finally:
            for hook in hooks:
                hook.remove()
        # The Fourier transform has a frame more than NeMo counts; after subsampling it may be one of padding only.
        # A batch too short for any frame keeps that one: the decoder needs something to (not) attend to.
        longest = max(1, int(self.output_lengths(torch.tensor(input_values.shape[1]))))
        frames = frames.transpose(1, 2)[:, :longest]  # [B, D, T+1] -> [B, T, D]
        return frames, lengths, tuple(layer[:, :longest] for layer in layers) if keep_layers else None

    def forward(
        self,
        input_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> HybridOutput | tuple[Any, ...]:
        """Recognise a batch; with labels, teacher-force the decoder on them and return the loss.

        Args:
            input_values: [B, S], waveforms at `config.sampling_rate`.
            attention_mask: [B, S], 1 on valid samples.
            labels: [B, U], without start or end of sequence, padded on the right with -100.
            output_hidden_states: whether to return every encoder layer's output.
            return_dict: False gives a tuple.

        Returns:
            loss = ctc_weight x CTC loss per label + the rest x cross-entropy per position, the mean over utterances.

        Raises:
            UserError: if the labels are more than the decoder has positions for.
        """
        if output_hidden_states is None:
            output_hidden_states = bool(self.config.output_hidden_states)
        middle = self.config.intermediate_layer
        frames, lengths, layers = self.encode(input_values, attention_mask, output_hidden_states or middle > 0)
        logits = self.ctc_head(frames)  # [B, T, V]
        if attention_mask is not None and not self.training:
            logits = blank_padding(logits, lengths, self.config.pad_token_id)
        loss, decoder_logits, decoder_lengths = None, None, None
        if labels is not None:
            decoder_logits, targets, decoder_lengths = self._force(frames, lengths, labels)
            ctc = ctc_label_loss(logits, lengths, labels, self.config.pad_token_id)
            attention = decoder_label_loss(decoder_logits, targets)
            loss = (self.config.ctc_weight * ctc + (1 - self.config.ctc_weight) * attention).mean()
        output = HybridOutput(
            loss=loss,
            logits=logits,
            logit_lengths=lengths,
            hidden_states=layers if output_hidden_states else None,
            auxiliary_logits=self.intermediate_head(layers[middle - 1]) if layers and middle else None,
            decoder_logits=decoder_logits,
            decoder_lengths=decoder_lengths,
        )
        keep_names = self.config.return_dict if return_dict is None else return_dict
        return output if keep_names else output.to_tuple()

    def _force(
        self, frames: torch.Tensor, lengths: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Decoder logits [B, U+1, V] on the labels, its targets [B, U+1] and their lengths [B]."""
        config = self.config
        if labels.shape[1] + 1 > config.max_target_positions:
            raise UserError(
                f"an utterance has {labels.shape[1]} labels",
                expected=f"fewer than the decoder's {config.max_target_positions} positions",
                fix="set the model option max_target_positions higher, or split the utterance",
            )
        inputs, targets, decoder_lengths = teacher_forcing(
            labels, config.bos_token_id, config.eos_token_id, config.pad_token_id
        )
        decoder_logits = self.decoder(
            inputs,
            encoder_outputs=BaseModelOutput(last_hidden_state=frames),
            attention_mask=_mask_of(lengths, frames),
        ).logits
        return decoder_logits, targets, decoder_lengths

    @torch.no_grad()
    def generate(
        self,
        input_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        max_new_tokens: int | None = None,
        num_beams: int = 1,
        **options: Any,
    ) -> torch.Tensor | Any:
        """Decode with the attention decoder, through transformers' generation with a key-value cache.

        Args:
            input_values: [B, S], waveforms at `config.sampling_rate`.
            attention_mask: [B, S], 1 on valid samples.
            max_new_tokens: labels at most; by default as many as there are encoder frames.
            num_beams: hypotheses kept; 1 is greedy.
            options: any other option of transformers' `generate`.

        Returns:
            [B, N] token ids: the start of sequence, labels, the end of sequence, then padding; or what the options
            ask for, e.g. `return_dict_in_generate=True`.

        Raises:
            UserError: if `max_new_tokens` is more than the decoder has positions for.
        """
        frames, lengths, _ = self.encode(input_values, attention_mask)
        return self.generate_from(frames, lengths, max_new_tokens, num_beams, **options)

    @torch.no_grad()
    def generate_from(
        self,
        frames: torch.Tensor,
        lengths: torch.Tensor,
        max_new_tokens: int | None = None,
        num_beams: int = 1,
        **options: Any,
    ) -> torch.Tensor | Any:
        """`generate` on what `encode` has given: frames [B, T, D] and their lengths [B].

        Raises:
            UserError: if `max_new_tokens` is more than the decoder has positions for.
        """
        room = self.config.max_target_positions - 1
        if max_new_tokens is not None and not 1 <= max_new_tokens <= room:
            raise UserError(f"max_new_tokens is {max_new_tokens}", expected=f"a number from 1 to {room}")
        limit: dict[str, Any] = {"max_new_tokens": max_new_tokens or max(1, min(frames.shape[1], room))}
        if max_new_tokens is None and options.get("max_length") is not None:  # transformers' other way to say it
            if not 2 <= options["max_length"] <= room + 1:
                raise UserError(f"max_length is {options['max_length']}", expected=f"a number from 2 to {room + 1}")
            limit = {}
        return self.decoder.generate(  # type: ignore[misc]  # transformers' protocol wants more than it uses
            encoder_outputs=BaseModelOutput(last_hidden_state=frames),
            attention_mask=_mask_of(lengths, frames),
            num_beams=num_beams,
            **limit,
            **options,
        )

    def sequence_log_probs(self, frames: torch.Tensor, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
        """The decoder's log-probability of W label sequences, see `candidates.sequence_log_probs`.

        Args:
            frames: [T, D], valid frames of one utterance, as `encode` gives them.
            sequences: W label sequences.

        Returns:
            [W].
        """
        return sequence_log_probs(self.decoder, frames, sequences)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if not reset_module(module, self.config):
            super()._init_weights(module)


def _mask_of(lengths: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """[B, T], 1 on valid frames."""
    return (torch.arange(frames.shape[1], device=frames.device) < lengths.unsqueeze(1)).long()
