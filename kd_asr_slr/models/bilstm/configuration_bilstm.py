"""Configuration of the bidirectional LSTM."""

from __future__ import annotations

from kd_asr_slr.models.parts.configuration import RecogniserConfig


class BiLstmConfig(RecogniserConfig):
    """Shape of a `BiLstmForCTC`; see `RecogniserConfig` for its options.

    Example:
        >>> BiLstmConfig(input_size=80, hidden_size=256, num_layers=4, stride=4, vocab_size=30).subsampling
        4
    """

    model_type = "bilstm_ctc"
