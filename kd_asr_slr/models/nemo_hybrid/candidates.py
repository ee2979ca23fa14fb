"""The attention decoder's probability of given label sequences: a word list, or what another search has found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import pad
from transformers.modeling_outputs import BaseModelOutput

from kd_asr_slr.models.nemo_hybrid.decoder import AttentionDecoder

AT_ONCE = 512  # sequences in one batch: every one of them holds keys and values of all frames


@torch.no_grad()
def sequence_log_probs(
    decoder: AttentionDecoder, frames: torch.Tensor, sequences: Sequence[Sequence[int]]
) -> torch.Tensor:
    """The log-probability of label sequences and their end of sequence, all of them in one batch.

    The keys and values of the encoder's frames are computed once, and repeated.

    Args:
        decoder: the decoder, in evaluation mode.
        frames: [T, D], the encoder's valid frames of one utterance.
        sequences: W label sequences, without start or end.

    Returns:
        [W], float32: sum over u of log p(y_u | y_1 ... y_(u-1), frames), the end of sequence being the last y.

    Example:
        >>> decoder = AttentionDecoder(NemoHybridConfig(vocab_size=8, d_model=16).decoder_config()).eval()
        >>> sequence_log_probs(decoder, torch.zeros(5, 16), [[3], [4, 5]]).shape
        torch.Size([2])
    """
    parts = [sequences[start : start + AT_ONCE] for start in range(0, len(sequences), AT_ONCE)]
    return torch.cat([_in_one_batch(decoder, frames, part) for part in parts])


def _in_one_batch(decoder: AttentionDecoder, frames: torch.Tensor, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
    count = len(sequences)
    config: Any = decoder.config  # whose special tokens may be lists, or None, in other models
    lengths = torch.tensor([len(labels) for labels in sequences], device=frames.device)  # [W]
    longest = int(lengths.max())
    rows = [[*labels, *[config.pad_token_id] * (longest - len(labels))] for labels in sequences]
    labels = torch.tensor(rows, dtype=torch.long, device=frames.device).view(count, longest)  # [W, U]
    begin = torch.full((1, 1), config.bos_token_id, device=frames.device)
    first = decoder(begin, encoder_outputs=BaseModelOutput(last_hidden_state=frames[None]), use_cache=True)
    logits = first.logits.expand(count, -1, -1)  # [W, 1, V]
    if longest:
        cache = first.past_key_values
        cache.batch_repeat_interleave(count)
        encoded = BaseModelOutput(last_hidden_state=frames.expand(count, -1, -1))
        following = decoder(labels, encoder_outputs=encoded, past_key_values=cache, use_cache=True).logits
        logits = torch.cat([logits, following], dim=1)  # [W, U+1, V]
    targets = pad(labels, (0, 1), value=config.pad_token_id).scatter(1, lengths[:, None], config.eos_token_id)
    scores = logits.float().log_softmax(-1).gather(2, targets[..., None]).squeeze(2)  # [W, U+1]
    said = torch.arange(longest + 1, device=frames.device) <= lengths[:, None]
    return scores.masked_fill(~said, 0.0).sum(dim=1)
