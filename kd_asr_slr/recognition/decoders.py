"""The decoder of a recogniser, by the options of recipes/score.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel

from kd_asr_slr.arguments import DataArguments
from kd_asr_slr.errors import UserError, raise_all
from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.tool_arguments import DECODING, ScoreArguments
from kd_asr_slr.training.data import data_of
from kd_asr_slr.training.evaluation import Decode, build_decoding
from kd_asr_slr.training.hybrid_decoding import words_of
from kd_asr_slr.training.tuning import settled_search

BEST_PATH = ("greedy", "ctc")


def decoder_of(
    run: RunFolder, model: PreTrainedModel, processor: Any, options: Mapping[str, Any]
) -> tuple[Decode | None, str]:
    """The decoder that the options name.

    Args:
        run: the run folder; where it is none, nothing is known of it.
        model: the recogniser.
        processor: its processor.
        options: some of `tool_arguments.DECODING`; those that are None are left open.

    Returns:
        The decoder, None for the best path of all labels; and for a beam search the sentence on its settings.

    Raises:
        UserError: for an unknown option, a value that cannot be used, or a decoder that does not fit to the model.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if unknown := sorted(set(given) - set(DECODING)):
        raise UserError(f"a decoder has no setting {', '.join(unknown)}", expected=f"some of {', '.join(DECODING)}")
    score = ScoreArguments(run=str(run.path), decode_processes=1, **given)
    raise_all(score.problems(), "the decoder")
    if score.decoder in BEST_PATH and score.max_length is None:
        return None, ""
    score, sentence = settled_search(score, run.path)
    words = None
    if score.decoder == "closed":
        data = data_of(run.config()) if run.exists else DataArguments()
        words = words_of(score, processor, data, [])
    return build_decoding(score, processor, model, words), sentence
