"""Configuration of the landmark MobileNetV3."""

from __future__ import annotations

import math

from kd_asr_slr.models.parts.streams import StreamConfig


class LandmarkMobileNetV3Config(StreamConfig):
    """Shape of a `LandmarkMobileNetV3ForCTC`; see `StreamConfig` and `RecogniserConfig` for the other options.

    Args:
        width_multiplier: times the widths of MobileNetV3-Small, whose 16 to 96 channels stand for a grid of positions
            that landmarks do not have.

    Raises:
        UserError: for values that no network can be built from, all of them at once.

    Example:
        >>> LandmarkMobileNetV3Config(input_size=20, vocab_size=9, width_multiplier=1.0).subsampling
        4
    """

    model_type = "landmark_mobilenet_v3"

    hidden_size: int = 256
    num_layers: int = 2
    stream_width: int = 64
    width_multiplier: float = 2.0

    def problems(self) -> list[str]:
        """Sentences about values that cannot be used."""
        found = super().problems()
        if not 0 < self.width_multiplier < math.inf:
            found.append(f"width_multiplier is {self.width_multiplier}; expected more than 0")
        return found
