"""What results.json says of a run besides its scores: what the training took, which labels it writes."""

from __future__ import annotations

from typing import Any

from transformers import TrainerState

from kd_asr_slr.processing.tokenization import fingerprint_of


def cost_of(state: TrainerState, resumed: bool) -> dict[str, Any]:
    """What the training took: `epochs`, `steps` (of the optimiser) and `seconds` by the clock.

    Args:
        state: the trainer's, at the end.
        resumed: whether the run was taken up from a checkpoint; its clock is not known then, and `seconds` is None.
    """
    clocks = [record["train_runtime"] for record in state.log_history if "train_runtime" in record]
    return {
        "epochs": float(state.epoch or 0),
        "steps": state.global_step,
        "seconds": None if resumed or not clocks else float(clocks[-1]),
    }


def vocabulary_of(processor: Any) -> dict[str, Any]:
    """`size` and `fingerprint` of the labels, the blank included: runs of other labels are told apart by them."""
    tokens = processor.tokens
    return {"size": len(tokens), "fingerprint": fingerprint_of(tokens, processor.blank_id)}
