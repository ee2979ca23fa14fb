"""Partial texts of a stream: the last one is that of the whole utterance where the network allows it."""

from __future__ import annotations

import numpy as np
import torch

from kd_asr_slr.decoding.beam import BeamDecoder, BeamOptions
from kd_asr_slr.decoding.greedy import greedy_decode
from kd_asr_slr.models.auto import build_model
from kd_asr_slr.training.streaming import StreamingRecogniser

TOKENS = ["<blank>", *(f"W{number}" for number in range(5))]


class Labels:
    """As much of a processor as a stream needs."""

    blank_id = 0

    def decode_labels(self, ids: list[int]) -> str:
        return " ".join(TOKENS[index] for index in ids)


def network(**options: object):
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_layers": 2, "stride": 2, **options}
    model = build_model("bilstm", size, input_size=6, vocab_size=len(TOKENS), pad_token_id=0).eval()
    model.head.weight.data *= 8  # an untrained network is sure of nothing
    return model


def texts(recogniser: StreamingRecogniser, features: torch.Tensor) -> list[str]:
    return [*(recogniser.accept(chunk) for chunk in features.split(7)), recogniser.finish()]


def test_texts_grow_to_that_of_the_whole_utterance() -> None:
    model, labels = network(bidirectional=False), Labels()
    recogniser = StreamingRecogniser(model, labels)
    assert recogniser.stream.exact
    for seed in range(3):  # one utterance after another
        features = torch.randn(60, 6, generator=torch.Generator().manual_seed(seed)) * 3
        found = texts(recogniser, features)
        whole = greedy_decode(model(features[None]).logits[0].detach().numpy(), 0)
        assert found[-1] == labels.decode_labels(whole) and len(whole) > 3
        assert all(later.startswith(earlier) for earlier, later in zip(found, found[1:], strict=False))
        assert len(set(found)) > 3


def test_a_beam_ends_at_the_sentence_of_the_whole_utterance() -> None:
    model, features = network(bidirectional=False), torch.randn(60, 6, generator=torch.Generator().manual_seed(5)) * 3
    beam = BeamDecoder(TOKENS, 0, "words", options=BeamOptions(beam_width=8))
    found = texts(StreamingRecogniser(model, Labels(), beam), features)
    log_probs = model(features[None]).logits[0].detach().log_softmax(-1).numpy()
    assert found[-1] == beam.decode(log_probs).text != ""
    assert np.unique(found).size > 3


def test_other_networks_recognise_windows() -> None:
    model, features = network(), torch.randn(60, 6, generator=torch.Generator().manual_seed(2)) * 3
    recogniser = StreamingRecogniser(model, Labels(), chunk=30, left=0, right=0)
    assert not recogniser.stream.exact and recogniser.stream.latency == 59
    whole = greedy_decode(model(features[None]).logits[0].detach().numpy(), 0)
    assert texts(recogniser, features)[-1] == Labels().decode_labels(whole)
