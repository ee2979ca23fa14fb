"""Many beam searches over the same network outputs: every pair of language model weight and word score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd_asr_slr.decoding.pool import CHUNK, BeamPool, Weights
from kd_asr_slr.progress import Progress


class GridDecoder:
    """Decodes utterances with every pair of weights; the network has run once, before.

    Args:
        arguments: of `BeamDecoder`, a language model among them; the grid replaces its weights.
        processes: that share the utterances, see `BeamPool`.

    Raises:
        UserError: as `BeamDecoder` does, before there is anything to decode.
    """

    def __init__(self, arguments: dict[str, Any], processes: int | None = 1) -> None:
        self._pool = BeamPool(arguments, processes)

    def decode(self, log_probs: Sequence[NDArray[np.floating]], grid: Sequence[Weights]) -> list[list[str]]:
        """Decode all utterances with all pairs of weights.

        Args:
            log_probs: natural log-probabilities [T, V] of every utterance.
            grid: the pairs of weights.

        Returns:
            For every pair of weights the texts of all utterances, in their order.
        """
        chunks = self._pool.submit_grid(log_probs, grid)
        found = list(Progress(chunks, "tuning", f"chunks of {CHUNK}", total=-(-len(log_probs) // CHUNK)))
        self._pool.close()
        return [[hypothesis.text for chunk in found for hypothesis in chunk[point]] for point in range(len(grid))]
