"""A small NeMo hybrid that behaves as after training, and three utterances for it."""

from __future__ import annotations

import torch

from kd_asr_slr.models.nemo_hybrid.configuration_nemo_hybrid import NemoHybridConfig
from kd_asr_slr.models.nemo_hybrid.modeling_nemo_hybrid import NemoHybridForASR

TINY = {
    "vocab_size": 7,
    "num_mel_bins": 24,
    "encoder_layers": 2,
    "d_model": 32,
    "conv_kernel_size": 7,
    "decoder_layers": 2,
    "decoder_ffn_dim": 48,
    "max_source_positions": 200,
    "max_target_positions": 64,
}
LENGTHS = (16000, 9000, 4321)


def build(**options: object) -> NemoHybridForASR:
    torch.manual_seed(7)
    model = NemoHybridForASR(NemoHybridConfig(**{**TINY, **options}))
    with torch.no_grad():
        # As after training: what the decoder says depends on what it hears, on all it has said, and where.
        for name, weight in model.decoder.transformer.named_parameters():
            if "norm" not in name:
                weight.mul_(3 if "embed_tokens" in name else 40 if "embed_positions" in name else 20)
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.uniform_(0.5, 1.5)
    return model.eval()


def batch() -> dict[str, torch.Tensor]:
    """Three utterances of different lengths; what lies in the padding is not zero."""
    generator = torch.Generator().manual_seed(11)
    waveforms = torch.randn(3, max(LENGTHS), generator=generator)
    mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    labels = torch.tensor([[3, 4, 4, 5], [6, 3, -100, -100], [5, -100, -100, -100]])
    return {"input_values": waveforms, "attention_mask": mask, "labels": labels}


def alone(index: int) -> dict[str, torch.Tensor]:
    whole = batch()
    labels = whole["labels"][index]
    return {
        "input_values": whole["input_values"][index : index + 1, : LENGTHS[index]],
        "labels": labels[labels >= 0].unsqueeze(0),
    }
