"""Configuration of the landmark I3D."""

from __future__ import annotations

from dataclasses import field

from kd_asr_slr.models.parts.streams import StreamConfig


class LandmarkI3DConfig(StreamConfig):
    """Shape of a `LandmarkI3DForCTC`; see `StreamConfig` and `RecogniserConfig` for the other options.

    Args:
        num_blocks: inflated-Inception blocks a stream.
        block_kernels: frames that the parallel convolutions of a block see, odd numbers; beside them every block has a
            pointwise branch and a pooled one.
        attention_heads: heads of the attention between the streams of a frame.

    Raises:
        UserError: for values that no network can be built from, all of them at once.

    Example:
        >>> config = LandmarkI3DConfig(input_size=20, stream_slices={"hands": [0, 12], "pose": [12, 20]})
        >>> {stream.name: round(stream.gate, 3) for stream in config.streams}
        {'hands': 0.667, 'pose': 0.333}
    """

    model_type = "landmark_i3d"

    hidden_size: int = 256
    num_layers: int = 3
    num_blocks: int = 3
    block_kernels: list[int] = field(default_factory=lambda: [3, 5, 7])
    attention_heads: int = 4

    def problems(self) -> list[str]:
        """Sentences about values that cannot be used."""
        found = super().problems()
        if self.num_blocks < 0:
            found.append(f"num_blocks is {self.num_blocks}; expected 0 or more")
        if not self.block_kernels or any(kernel < 1 or kernel % 2 == 0 for kernel in self.block_kernels):
            found.append(f"block_kernels is {self.block_kernels}; expected odd numbers, at least one")
        branches = len(self.block_kernels) + 2
        if self.stream_width < branches:
            found.append(f"stream_width is {self.stream_width}; expected {branches} or more, one a branch of a block")
        if self.attention_heads < 1 or self.stream_width % self.attention_heads:
            found.append(
                f"attention_heads is {self.attention_heads}; expected a divisor of stream_width, {self.stream_width}"
            )
        return found
