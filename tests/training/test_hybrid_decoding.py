"""Closed and joint decoding: against enumeration of every sequence, in batches and alone, and what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers.modeling_outputs import BaseModelOutput

from kd_asr_slr.arguments import DataArguments
from kd_asr_slr.errors import UserError
from kd_asr_slr.models.forward import run_ctc
from kd_asr_slr.models.nemo_hybrid.configuration_nemo_hybrid import NemoHybridConfig
from kd_asr_slr.models.nemo_hybrid.modeling_nemo_hybrid import NemoHybridForASR
from kd_asr_slr.outputs import CTCOutput
from kd_asr_slr.processing.pieces import PieceTokenizer
from kd_asr_slr.processing.speech import SpeechFeatureExtractor, SpeechProcessor
from kd_asr_slr.processing.tokenization import LabelTokenizer
from kd_asr_slr.tool_arguments import ScoreArguments
from kd_asr_slr.training.evaluation import build_decoding
from kd_asr_slr.training.hybrid_decoding import combine, words_of

LENGTHS = (5200, 3000, 1900)  # samples: 8, 5 and 3 frames
WORDS = ["A", "AB", "B", "BAB"]


def processor_of(tokenizer: Any) -> SpeechProcessor:
    return SpeechProcessor(SpeechFeatureExtractor(kind="waveform"), tokenizer)


@pytest.fixture(scope="module")
def processor() -> SpeechProcessor:
    """<blank> <s> </s> A B."""
    return processor_of(LabelTokenizer.from_texts(["AB"], kind="characters", decoder_specials=True))


@pytest.fixture(scope="module")
def model() -> NemoHybridForASR:
    torch.manual_seed(8)
    sizes = {"encoder_layers": 1, "d_model": 32, "conv_kernel_size": 7, "decoder_layers": 1, "decoder_ffn_dim": 32}
    model = NemoHybridForASR(
        NemoHybridConfig(vocab_size=5, num_mel_bins=24, conv_norm_type="layer_norm", max_target_positions=16, **sizes)
    )
    with torch.no_grad():
        for name, weight in model.decoder.transformer.named_parameters():
            if "norm" not in name:
                weight.mul_(3 if "embed_tokens" in name else 40 if "embed_positions" in name else 20)
        torch.manual_seed(9)
        model.ctc_head.weight.normal_()
        model.ctc_head.bias.zero_()
    return model.eval()


def batch(*rows: int) -> dict[str, torch.Tensor]:
    """Utterances of different lengths; what lies in the padding is not zero."""
    values = torch.randn(3, max(LENGTHS), generator=torch.Generator().manual_seed(1))
    rows = rows or (0, 1, 2)
    longest = max(LENGTHS[row] for row in rows)
    mask = torch.arange(longest) < torch.tensor([LENGTHS[row] for row in rows])[:, None]
    return {"input_values": values[list(rows), :longest], "attention_mask": mask.long()}


@torch.no_grad()
def decoded(model: Any, score: ScoreArguments, processor: Any, *rows: int, words: Any = None) -> list[str]:
    inputs = batch(*rows)
    return build_decoding(score, processor, model, words)(model, inputs, run_ctc(model, inputs))


@torch.no_grad()
def scores_of(model: NemoHybridForASR, row: int, sequences: list[tuple[int, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """CTC and decoder log-probabilities of sequences, one after the other: torch's CTC loss, plain teacher forcing."""
    inputs = batch(row)
    log_probs = run_ctc(model, inputs).logits.log_softmax(-1).transpose(0, 1)  # [T, 1, V]
    frames = model.encode(**inputs)[0]
    ctc, attention = [], []
    for labels in sequences:
        target = torch.tensor([labels], dtype=torch.long)
        ctc.append(-float(functional.ctc_loss(log_probs, target, [len(log_probs)], [len(labels)], reduction="sum")))
        encoded = BaseModelOutput(last_hidden_state=frames)
        scores = model.decoder(torch.tensor([[1, *labels]]), encoder_outputs=encoded).logits[0].log_softmax(-1)
        attention.append(sum(float(scores[place, label]) for place, label in enumerate([*labels, 2])))
    return np.array(ctc), np.array(attention)


def weighted(ctc: np.ndarray, attention: np.ndarray, weight: float) -> np.ndarray:
    if weight in (0.0, 1.0):
        return ctc if weight else attention
    return weight * ctc + (1 - weight) * attention


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("longest", [2, 4])
def test_joint_finds_the_best_of_all_sequences(
    model: NemoHybridForASR, processor: SpeechProcessor, weight: float, longest: int
) -> None:
    everything = [labels for count in range(longest + 1) for labels in itertools.product([3, 4], repeat=count)]
    score = ScoreArguments(decoder="joint", ctc_weight=weight, beam_width=40, max_length=longest)
    found = decoded(model, score, processor)
    for row in range(3):
        ctc, attention = scores_of(model, row, everything)
        best = everything[int(weighted(ctc, attention, weight).argmax())]
        assert found[row] == processor.decode_labels(best)
    assert found == [decoded(model, score, processor, row)[0] for row in range(3)]
    assert all(len(text) <= longest for text in found)


def test_the_weight_decides(model: NemoHybridForASR, processor: SpeechProcessor) -> None:
    """The two heads disagree here, or the tests above would hold for any weight."""
    outcomes = {
        tuple(decoded(model, ScoreArguments(decoder="joint", ctc_weight=weight, max_length=4), processor))
        for weight in (0.0, 1.0)
    }
    assert len(outcomes) == 2


def test_an_impossible_hypothesis_counts_only_where_ctc_has_a_say() -> None:
    ctc, attention = np.array([-np.inf, -2.0]), np.array([-1.0, -3.0])
    assert combine(ctc, attention, 0.0).tolist() == [-1.0, -3.0]
    assert combine(ctc, attention, 1.0).tolist() == [-np.inf, -2.0]
    assert combine(ctc, attention, 0.25).tolist() == [-np.inf, -2.75]


@pytest.mark.parametrize("by", ["ctc", "attention", "joint"])
def test_closed_takes_the_best_entry(model: NemoHybridForASR, processor: SpeechProcessor, by: str) -> None:
    score = ScoreArguments(decoder="closed", closed_by=by)
    found = decoded(model, score, processor, words=WORDS)
    sequences = [tuple(processor.encode_labels(word)) for word in WORDS]
    for row in range(3):
        ctc, attention = scores_of(model, row, sequences)
        wanted = weighted(ctc, attention, {"ctc": 1.0, "attention": 0.0, "joint": 0.3}[by])
        assert found[row] == WORDS[int(wanted.argmax())]
    assert found == [decoded(model, score, processor, row, words=WORDS)[0] for row in range(3)]


def test_closed_over_the_pieces_of_449_words(shared_data: Path) -> None:
    """Any network with a CTC head will do; what it hears is spelled out here. Nothing fits into too few frames."""
    lines = (shared_data / "uaspeech" / "word_table.tsv").read_text(encoding="utf-8").splitlines()[1:]
    words = sorted({line.split("\t")[2] for line in lines})
    pieces = processor_of(PieceTokenizer.from_texts(words, 200))
    spoken = ["SENTENCE", "BACKSPACE", "ALPHA", "x"]
    logits = torch.zeros(len(spoken), 40, 200)
    for row, word in enumerate(spoken[:-1]):
        logits[row, :, 0] = 9.0
        for place, label in enumerate(pieces.encode_labels(word)):
            logits[row, 2 * place, 0] = 0.0
            logits[row, 2 * place, label] = 9.0
    lengths = torch.tensor([40, 40, 40, 0])
    network = SimpleNamespace(config=SimpleNamespace(has_decoder=False, model_type="ctc"))
    decode = build_decoding(ScoreArguments(decoder="closed"), pieces, network, words)
    assert decode(network, {}, CTCOutput(logits=logits, logit_lengths=lengths)) == [*spoken[:-1], ""]
    beam = build_decoding(ScoreArguments(decoder="beam"), pieces, network)
    assert list(beam(network, {}, CTCOutput(logits=logits, logit_lengths=lengths))) == [*spoken[:-1], ""]
    short = build_decoding(ScoreArguments(decoder="beam", max_length=2), pieces, network)
    for text, word in zip(short(network, {}, CTCOutput(logits=logits, logit_lengths=lengths)), spoken, strict=True):
        assert word.startswith(text) and text != word


def test_ctc_is_another_name_of_greedy_and_stops_at_the_maximum(
    model: NemoHybridForASR, processor: SpeechProcessor
) -> None:
    greedy = decoded(model, ScoreArguments(decoder="greedy"), processor)
    assert decoded(model, ScoreArguments(decoder="ctc"), processor) == greedy
    assert ScoreArguments(decoder="ctc").scored_as == "greedy"
    assert decoded(model, ScoreArguments(decoder="ctc", max_length=1), processor) == [text[:1] for text in greedy]
    assert max(map(len, greedy)) > 1
    attention = decoded(model, ScoreArguments(decoder="attention", max_length=3), processor)
    assert all(len(text) <= 3 for text in attention) and any(attention)


def test_the_entries(tmp_path: Path, processor: SpeechProcessor) -> None:
    data, path = DataArguments(manifest="m.csv", normaliser="words"), tmp_path / "words.txt"
    words = processor_of(LabelTokenizer.from_texts(["TWO ONE"], decoder_specials=True))
    assert words_of(ScoreArguments(decoder="closed"), words, data, ["ONE"]) == ["ONE", "TWO"]
    assert words_of(ScoreArguments(decoder="closed"), processor, data, ["BA B", "A", "BA B"]) == ["A", "BA B"]
    path.write_text("one\n two  one \n\none\n", encoding="utf-8")
    score = ScoreArguments(decoder="closed", word_list=str(path))
    assert words_of(score, processor, data, ["A"]) == ["ONE", "TWO ONE"]
    with pytest.raises(UserError, match="set --word_list FILE"):
        words_of(ScoreArguments(decoder="closed"), processor, data, [])
    with pytest.raises(UserError, match="none.txt cannot be read"):
        words_of(ScoreArguments(decoder="closed", word_list=str(tmp_path / "none.txt")), processor, data, [])


def test_what_cannot_be_decoded_so(model: NemoHybridForASR, processor: SpeechProcessor) -> None:
    closed = ScoreArguments(decoder="closed")
    with pytest.raises(UserError, match="(?s)2 problems.*'AC' has labels outside.*'CA' has labels outside"):
        build_decoding(closed, processor, model, ["A", "AC", "CA"])
    with pytest.raises(UserError, match="'BAB' has 3 labels; expected 2 at most"):
        build_decoding(ScoreArguments(decoder="closed", max_length=2), processor, model, WORDS)
    without = SimpleNamespace(config=SimpleNamespace(model_type="bilstm"))
    for score in (ScoreArguments(decoder="joint"), ScoreArguments(decoder="closed", closed_by="attention")):
        with pytest.raises(UserError, match="has no attention decoder"):
            build_decoding(score, processor, without, WORDS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"decoder": "viterbi"}, "expected one of ctc, greedy, beam, attention, closed, joint"),
        ({"word_list": "w.txt"}, "word_list is given; set --decoder closed"),
        ({"decoder": "joint", "closed_by": "attention"}, "closed_by is given; set --decoder closed"),
        ({"decoder": "closed", "closed_by": "both"}, "closed_by is 'both'"),
        ({"decoder": "joint", "ctc_weight": 1.5}, "ctc_weight is 1.5; expected 0 to 1"),
        ({"max_length": 0}, "max_length is 0; expected 1 or more"),
        ({"decoder": "closed", "tune": True, "lm": "lm.arpa"}, "leave out --decoder closed"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], words: str) -> None:
    assert words in " ".join(ScoreArguments(run="r", **options).problems())


def test_results_tell_the_decoders_apart() -> None:
    names = [ScoreArguments(decoder="closed", closed_by=by).scored_as for by in ("ctc", "attention", "joint")]
    assert names == ["closed", "closed-attention", "closed-joint"]
