"""The attention decoder: transformers' pre-norm decoder with an output layer, and transformers' own generation."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, GenerationMixin, MBartConfig, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput
from transformers.models.mbart.modeling_mbart import MBartDecoder


class AttentionDecoder(PreTrainedModel, GenerationMixin):
    """A Transformer decoder with cross attention over encoder frames.

    The layers, their key-value cache and the search (greedy, beam, sampling) are those of transformers; the encoder is
    none of its business, it is handed the encoder's frames.

    Args:
        config: sizes; see `NemoHybridConfig.decoder_config`.

    Example:
        >>> decoder = AttentionDecoder(NemoHybridConfig(vocab_size=8, d_model=16).decoder_config())
        >>> frames = BaseModelOutput(last_hidden_state=torch.zeros(1, 5, 16))
        >>> decoder(torch.tensor([[1, 4]]), encoder_outputs=frames).logits.shape
        torch.Size([1, 2, 8])
    """

    config_class = MBartConfig
    config: MBartConfig
    _supports_sdpa = True
    _supports_flash_attn = True

    def __init__(self, config: MBartConfig) -> None:
        super().__init__(config)
        self.transformer = MBartDecoder(config)
        self.head = nn.Linear(config.d_model, config.vocab_size)
        self.generation_config = GenerationConfig(
            bos_token_id=config.bos_token_id,
            eos_token_id=config.eos_token_id,
            pad_token_id=config.pad_token_id,
            decoder_start_token_id=config.bos_token_id,
            # Neither the blank nor the start of sequence is ever a target of the decoder.
            suppress_tokens=[config.pad_token_id, config.bos_token_id],
        )
        self.post_init()

    def forward(
        self,
        decoder_input_ids: torch.Tensor,
        encoder_outputs: BaseModelOutput,
        attention_mask: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        **options: Any,
    ) -> Seq2SeqLMOutput:
        """Score the next label after each position.

        Args:
            decoder_input_ids: [B, U+1], the start of sequence and labels; with a cache only the newest of them.
            encoder_outputs: holds the encoder's frames, [B, T, D].
            attention_mask: [B, T], 1 on valid frames.
            past_key_values: keys and values of the positions before.
            use_cache: whether to return those for the next step.
            options: what generation passes besides, e.g. `output_attentions`.

        Returns:
            logits [B, U+1, V], raw, and the cache.
        """
        options.pop("return_dict", None)
        outputs = self.transformer(
            input_ids=decoder_input_ids,
            encoder_hidden_states=encoder_outputs[0],
            encoder_attention_mask=attention_mask,
            past_key_values=past_key_values,
            use_cache=bool(use_cache),
            **options,
        )
        return Seq2SeqLMOutput(
            logits=self.head(outputs.last_hidden_state),  # [B, U+1, V]
            past_key_values=outputs.past_key_values,
            decoder_hidden_states=outputs.hidden_states,
            decoder_attentions=outputs.attentions,
            cross_attentions=outputs.cross_attentions,
        )
