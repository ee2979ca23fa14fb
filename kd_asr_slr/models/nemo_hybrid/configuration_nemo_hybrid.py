"""Configuration of the NeMo hybrid."""

from __future__ import annotations

from typing import Any

from transformers import MBartConfig, PreTrainedConfig

from kd_asr_slr.errors import raise_all
from kd_asr_slr.models.parts.configuration import intermediate_problems

# Only what treats an utterance the same alone and in a padded batch: stacking counts the batch's padding as frames, and
# instance and group norms average over it.
SUBSAMPLING_TYPES = ("striding", "dw_striding")
CONV_NORMS = ("batch_norm", "layer_norm")
NORMALISATIONS = ("per_feature", "none")
ATTENTION_MODELS = ("rel_pos", "abs_pos")
WINDOWS = ("hann", "hamming", "blackman", "bartlett")


class NemoHybridConfig(PreTrainedConfig):
    """Sizes of a `NemoHybridForASR`; by default `nvidia/stt_en_conformer_ctc_small` with a 4-layer decoder.

    Args:
        vocab_size: V, labels with the blank and the decoder's specials.
        pad_token_id: index of the blank, which is the padding of the decoder's input too.
        bos_token_id: what the decoder starts from.
        eos_token_id: what the decoder ends with.
        sampling_rate: Hz of `input_values`.
        num_mel_bins: mel bands a frame.
        window_seconds: length of the analysis window.
        hop_seconds: seconds from one mel frame to the next.
        n_fft: points of the Fourier transform.
        window: shape of the window, one of hann, hamming, blackman, bartlett.
        preemphasis: coefficient of the pre-emphasis filter; none where it is None.
        normalisation: "per_feature" (each mel band of an utterance to mean 0, deviation 1) or "none".
        dither: noise added to the waveform while training; 0 keeps training independent of the padding.
        time_masks, freq_masks: SpecAugment while training, how many masks of each; 0 for none (usual: 5 and 2). The
            network makes its own features, so that the masks are its own too; a teacher's input is not masked.
        time_width: longest time mask, as a share of the utterance's mel frames.
        freq_width: widest frequency mask, in mel bands.
        encoder_layers: Conformer blocks.
        d_model: D, width of encoder and decoder.
        encoder_heads: attention heads of the encoder.
        encoder_ffn_factor: width of the encoder's feed-forward layers as a multiple of `d_model`.
        encoder_bias: whether the encoder's linear and convolution layers have a bias.
        attention_model: "rel_pos" or "abs_pos".
        untie_biases: whether each layer has its own biases for relative positions.
        scale_inputs: whether the encoder multiplies its input by the root of `d_model`.
        max_source_positions: mel frames the positional encoding is made for; it grows where an utterance is longer.
        subsampling_factor: mel frames per encoder frame, a power of 2.
        subsampling_type: "striding" or "dw_striding".
        subsampling_channels: channels of the subsampling convolutions; 0 stands for `d_model`.
        conv_kernel_size: frames of the Conformer's depthwise convolution, odd.
        conv_norm_type: "batch_norm" (as pretrained) or "layer_norm" (the same loss however the batch is composed).
        dropout: dropout of the encoder and the decoder.
        attention_dropout: dropout of their attention weights.
        decoder_layers: Transformer decoder layers.
        decoder_heads: attention heads of the decoder.
        decoder_ffn_dim: width of the decoder's feed-forward layers.
        max_target_positions: labels + 1 that the decoder has positions for.
        ctc_weight: share of the CTC loss in the loss on labels, the decoder's cross-entropy has the rest.
        intermediate_layer: a second CTC classifier, with a LayerNorm of its own, after so many Conformer blocks:
            `auxiliary_logits`, for the losses `auxiliary_ctc` and `auxiliary_kd`; 0: none.

    Raises:
        UserError: for values that no model can be built from, all of them at once.

    Source:
        Kim et al. 2024, "Guiding frame-level CTC alignments using self-knowledge distillation" (2406.07909), for the
        intermediate classifier; Park et al. 2020, "SpecAugment on large scale datasets" (1912.05533), for the masks.

    Example:
        >>> NemoHybridConfig(vocab_size=32, encoder_layers=2, d_model=32).hop_length
        160
    """

    model_type = "nemo_hybrid"
    attribute_map = {"hidden_size": "d_model", "num_hidden_layers": "encoder_layers"}

    vocab_size: int = 5000
    pad_token_id: int = 0
    bos_token_id: int = 1
    eos_token_id: int = 2

    sampling_rate: int = 16000
    num_mel_bins: int = 80
    window_seconds: float = 0.025
    hop_seconds: float = 0.01
    n_fft: int = 512
    window: str = "hann"
    preemphasis: float | None = 0.97
    normalisation: str = "per_feature"
    dither: float = 0.0
    time_masks: int = 0
    time_width: float = 0.05
    freq_masks: int = 0
    freq_width: int = 27

    encoder_layers: int = 16
    d_model: int = 176
    encoder_heads: int = 4
    encoder_ffn_factor: int = 4
    encoder_bias: bool = True
    attention_model: str = "rel_pos"
    untie_biases: bool = True
    scale_inputs: bool = True
    max_source_positions: int = 5000
    subsampling_factor: int = 4
    subsampling_type: str = "striding"
    subsampling_channels: int = 0
    conv_kernel_size: int = 31
    conv_norm_type: str = "batch_norm"
    dropout: float = 0.1
    attention_dropout: float = 0.1

    decoder_layers: int = 4
    decoder_heads: int = 4
    decoder_ffn_dim: int = 1024
    max_target_positions: int = 1024
    ctc_weight: float = 0.3
    intermediate_layer: int = 0

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        check_config(self)

    @property
    def has_decoder(self) -> bool:
        """The model has an attention decoder beside its CTC head."""
        return True

    @property
    def hop_length(self) -> int:
        """Samples from one mel frame to the next."""
        return int(self.hop_seconds * self.sampling_rate)

    @property
    def subsampling(self) -> int:
        """Input frames, here waveform samples, per output frame."""
        return self.hop_length * self.subsampling_factor

    @property
    def inputs_to_logits_ratio(self) -> int:
        """`subsampling`, under the name the waveform models of transformers give it."""
        return self.subsampling

    def decoder_config(self) -> MBartConfig:
        """The sizes of the attention decoder, as transformers' pre-norm decoder reads them."""
        return MBartConfig(
            vocab_size=self.vocab_size,
            d_model=self.d_model,
            encoder_layers=self.decoder_layers,  # generation reads the number of cached layers under this name
            decoder_layers=self.decoder_layers,
            decoder_attention_heads=self.decoder_heads,
            decoder_ffn_dim=self.decoder_ffn_dim,
            max_position_embeddings=self.max_target_positions,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            scale_embedding=True,
            pad_token_id=self.pad_token_id,
            bos_token_id=self.bos_token_id,
            eos_token_id=self.eos_token_id,
            decoder_start_token_id=self.bos_token_id,
            forced_eos_token_id=None,
            tie_word_embeddings=False,
            attn_implementation=self._attn_implementation,  # type: ignore[call-arg]  # goes through its **kwargs
        )


def check_config(config: NemoHybridConfig) -> None:
    """Refuse sizes and names that no model can be built from, all of them at once.

    Raises:
        UserError: where an option is out of its range.
    """
    raise_all(_token_problems(config) + _size_problems(config) + _choice_problems(config), "the nemo_hybrid options")


def _token_problems(config: NemoHybridConfig) -> list[str]:
    names = ("pad_token_id", "bos_token_id", "eos_token_id")
    ids = {name: getattr(config, name) for name in names}
    problems = [
        f"{name} is {index}, expected an index below vocab_size = {config.vocab_size} "
        "(the decoder needs <s> and </s> in the tokenizer)"
        for name, index in ids.items()
        if not isinstance(index, int) or not 0 <= index < config.vocab_size
    ]
    if len(set(ids.values())) < len(ids):
        problems.append(f"the blank, <s> and </s> need an index each, found {ids}")
    return problems


def _size_problems(config: NemoHybridConfig) -> list[str]:
    problems = [
        f"d_model = {config.d_model} is no multiple of {name} = {getattr(config, name)}"
        for name in ("encoder_heads", "decoder_heads")
        if getattr(config, name) < 1 or config.d_model % getattr(config, name)
    ]
    positive = ("encoder_layers", "decoder_layers", "encoder_ffn_factor", "decoder_ffn_dim", "num_mel_bins")
    problems += [
        f"{name} is {getattr(config, name)}, expected 1 or more" for name in positive if getattr(config, name) < 1
    ]
    factor = config.subsampling_factor
    if factor < 2 or factor & (factor - 1):
        problems.append(f"subsampling_factor is {factor}, expected a power of 2: 2, 4 or 8")
    if config.d_model % 2:
        problems.append(f"d_model is {config.d_model}, expected an even number")
    if config.conv_kernel_size % 2 == 0:
        problems.append(f"conv_kernel_size is {config.conv_kernel_size}, expected an odd number")
    if config.n_fft % 2 or config.n_fft < config.window_seconds * config.sampling_rate:
        problems.append(f"n_fft is {config.n_fft}, expected an even number of at least the window's samples")
    if config.hop_length < 1:
        problems.append(f"hop_seconds is {config.hop_seconds}, expected at least one sample")
    problems += _mask_problems(config)
    return problems + intermediate_problems(config.intermediate_layer, "encoder_layers", config.encoder_layers)


def _mask_problems(config: NemoHybridConfig) -> list[str]:
    problems = [
        f"{name} is {getattr(config, name)}, expected 0 or more"
        for name in ("time_masks", "freq_masks")
        if getattr(config, name) < 0
    ]
    if not 0 <= config.time_width <= 1:
        problems.append(f"time_width is {config.time_width}, expected a share of the frames, 0 to 1")
    if config.freq_masks and not 0 <= config.freq_width <= config.num_mel_bins:
        problems.append(f"freq_width is {config.freq_width}, expected 0 to num_mel_bins = {config.num_mel_bins}")
    return problems


def _choice_problems(config: NemoHybridConfig) -> list[str]:
    choices = {
        "subsampling_type": SUBSAMPLING_TYPES,
        "conv_norm_type": CONV_NORMS,
        "normalisation": NORMALISATIONS,
        "attention_model": ATTENTION_MODELS,
        "window": WINDOWS,
    }
    problems = [
        f"{name} is {getattr(config, name)!r}, expected one of {', '.join(known)}"
        for name, known in choices.items()
        if getattr(config, name) not in known
    ]
    problems += [
        f"{name} is {getattr(config, name)}, expected a number from 0 to 1"
        for name in ("ctc_weight", "dropout", "attention_dropout")
        if not 0 <= getattr(config, name) <= 1
    ]
    return problems
