"""NeMo's batched CTC beam search with its n-gram model on tensors: the choice where outputs lie on a GPU.

It searches a whole batch frame by frame, asks the language model for all words at once, and takes of the paths to a
hypothesis the best one where `decoding.beam` sums them up, so scores differ a little and texts hardly ever. NeMo's code
for the CPU and for CUDA is the same search; on CUDA it runs as graphs, with Triton for the language model.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from kd_asr_slr.decoding.arpa import read_arpa, renamed, write_arpa
from kd_asr_slr.decoding.beam import SPECIAL_TOKENS
from kd_asr_slr.decoding.beam_options import BeamOptions
from kd_asr_slr.decoding.log_probs import refuse_nan
from kd_asr_slr.decoding.ngram_scorer import check_word_coverage, load_kenlm
from kd_asr_slr.errors import UserError
from kd_asr_slr.models.nemo_hybrid.nemo_parts import nemo_modules

logger = logging.getLogger(__name__)

# NeMo writes a token as one character, this one and up; from here on there is no white space (100, NeMo's own choice,
# makes a line break of token 33).
FIRST_CHARACTER = 0xF0000
SURELY_NOT = -1e4  # a log-probability that no search follows; of -inf NeMo would make NaN


class NemoBeam:
    """NeMo's batched beam search over one vocabulary.

    Args:
        tokens: the vocabulary in the order of the model's outputs, blank and special tokens included.
        blank_id: index of the blank.
        kind: "words", or with no language model any other.
        lm_path: an ARPA file over words, or None.
        options: weights and pruning; `token_min_logp` and `prune_history` have no meaning here.
        special_tokens: tokens that are never output.

    Raises:
        UserError: for a language model that is unreadable, has nothing in common with the vocabulary, or is one of
            words where the tokens are none.

    Example:
        >>> NemoBeam(["<blank>", "HELLO", "WORLD"], 0, "words").decode(torch.eye(3)[None] * 9, torch.tensor([3]))
        [[1, 2]]
    """

    def __init__(
        self,
        tokens: Sequence[str],
        blank_id: int,
        kind: str,
        lm_path: str | Path | None = None,
        options: BeamOptions | None = None,
        special_tokens: Collection[str] = SPECIAL_TOKENS,
    ) -> None:
        options = options or BeamOptions()
        labels = [i for i, token in enumerate(tokens) if i != blank_id and token not in special_tokens]
        if lm_path is not None and kind != "words":
            raise UserError(
                f"NeMo's beam search takes a language model over the labels, and these are {kind}",
                expected="labels that are whole words",
                fix="leave out --beam_engine nemo, or search without a language model (--lm none)",
            )
        self._columns = torch.tensor([*labels, blank_id])  # NeMo has the blank last
        model = None
        if lm_path is not None:
            model = _language_model([tokens[i] for i in labels], Path(lm_path), options.oov_offset)
        search = _nemo("ctc_batched_beam_decoding").BatchedBeamCTCComputer
        self._search = search(
            blank_index=len(labels),
            beam_size=options.beam_width,
            fusion_models=None if model is None else [model],
            fusion_models_alpha=None if model is None else [options.lm_weight],
            beam_beta=0.0 if model is None else options.word_score,
            beam_threshold=-options.beam_prune_logp,
            allow_cuda_graphs=torch.cuda.is_available(),
        )

    @torch.inference_mode()
    def decode(self, logits: torch.Tensor, lengths: torch.Tensor) -> list[list[int]]:
        """The labels of every utterance of a batch, blanks dropped.

        Args:
            logits: [B, T, V], or log-probabilities; padding has no influence.
            lengths: [B], valid frames.

        Raises:
            UserError: if valid frames hold NaN or +inf.
        """
        valid = torch.arange(logits.shape[1], device=logits.device) < lengths[:, None].to(logits.device)  # [B, T]
        columns = self._columns.to(logits.device)
        log_probs = logits.float().index_select(-1, columns).log_softmax(-1).clamp(min=SURELY_NOT)  # [B, T, V']
        if not bool(log_probs[valid].isfinite().all()):
            refuse_nan(logits[valid].float().cpu().numpy())
        # NeMo scores frames behind an utterance's end as well; a sure blank changes nothing.
        silence = torch.full_like(log_probs[0, 0], SURELY_NOT)
        silence[-1] = 0.0
        log_probs = torch.where(valid[..., None], log_probs, silence)
        found = self._search(log_probs, lengths.to(logits.device)).to_hyps_list(score_norm=False)
        return [columns.cpu()[torch.as_tensor(one.y_sequence, dtype=torch.long)].tolist() for one in found]


def _language_model(words: Sequence[str], path: Path, oov_offset: float) -> Any:
    """NeMo's n-gram model over the positions of words, as KenLM reads the file."""
    warning = check_word_coverage(words, load_kenlm(path), path)
    if warning:
        logger.warning("%s", warning)
    names = {word: chr(FIRST_CHARACTER + place) for place, word in enumerate(words)}
    model = renamed(read_arpa(path), names, oov_offset)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):  # two progress bars
        return _nemo("ngram_lm").NGramGPULanguageModel.from_arpa(
            write_arpa(model, Path(folder) / "tokens.arpa"),
            vocab_size=len(words),
            normalize_unk=False,
            token_offset=FIRST_CHARACTER,
        )


def _nemo(name: str) -> ModuleType:
    """A module of NeMo's decoders, imported without a word on the terminal."""
    nemo_modules()
    return importlib.import_module(f"nemo.collections.asr.parts.submodules.{name}")
