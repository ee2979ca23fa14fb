"""Tiny teachers whose output for an utterance depends on nothing but that utterance, to the last bit."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from kd_asr_slr.outputs import CTCOutput, HybridOutput
from kd_asr_slr.teachers.aggregation import AggregationSettings
from kd_asr_slr.teachers.frozen import FrozenTeacher
from kd_asr_slr.teachers.manifest import manifest_of
from kd_asr_slr.teachers.pool import TeacherPool

TOKENS = ["<blank>", "A", "B", "C", "D"]
WIDTH = 3
COUNT, SHARD = 11, 3  # four shards, the last one short


class FakeTokenizer:
    """What `token_list` reads of a tokenizer."""

    pad_token_id = 0

    def __init__(self, tokens=TOKENS):
        self._tokens = list(tokens)

    def get_vocab(self):
        return {token: index for index, token in enumerate(self._tokens)}


def fake_processor(tokens=TOKENS, features="features-a", frame_seconds=0.01):
    return SimpleNamespace(tokenizer=FakeTokenizer(tokens), fingerprint=features, frame_seconds=frame_seconds)


class FakeModel(torch.nn.Module):
    """One matrix for CTC, one for the decoder; sums are elementwise, so the batch's shape cannot change a bit."""

    main_input_name = "input_features"

    def __init__(self, seed=0, vocabulary=5, width=WIDTH, subsampling=1, decoder=False):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.matrix = torch.nn.Parameter(torch.randn(width, vocabulary, generator=generator) * 2)
        self.decoder_matrix = torch.nn.Parameter(torch.randn(vocabulary + 1, vocabulary, generator=generator))
        self.config = SimpleNamespace(vocab_size=vocabulary, pad_token_id=0, has_decoder=decoder)
        self.subsampling = subsampling
        self.calls = []  # utterances of every forward pass

    def output_lengths(self, lengths):
        return lengths // self.subsampling

    def forward(self, input_features, attention_mask, labels=None, output_hidden_states=False, return_dict=True):
        self.calls.append(len(input_features))
        frames = input_features[:, :: self.subsampling]
        logits = (frames[..., None] * self.matrix).sum(-2)  # [B, T, V]
        states = (frames, frames * self.matrix[:, 0]) if output_hidden_states else None
        lengths = self.output_lengths(attention_mask.sum(-1))
        if not self.config.has_decoder:
            return CTCOutput(None, logits, lengths, states)
        before = torch.nn.functional.pad(labels, (1, 0), value=len(self.decoder_matrix) - 1)
        before = before.masked_fill(before < 0, 0)
        decoder_logits = self.decoder_matrix[before]  # [B, U+1, V]
        return HybridOutput(
            logits=logits,
            logit_lengths=lengths,
            hidden_states=states,
            decoder_logits=decoder_logits,
            decoder_lengths=(labels >= 0).sum(-1) + 1,
        )


def teacher(seed=0, name=None, speakers=(), dev_wer=None, tokens=TOKENS, features="features-a", **options):
    frozen = {key: options.pop(key) for key in ("precision", "student_features") if key in options}
    model = FakeModel(seed, vocabulary=len(tokens), **options)
    return FrozenTeacher(
        model, fake_processor(tokens, features), name or f"t{seed}", speakers=speakers, dev_wer=dev_wer, **frozen
    )


def utterance(position, width=WIDTH):
    """(features [T, F], labels) of the utterance at a position of the made-up corpus."""
    generator = torch.Generator().manual_seed(1000 + position)
    frames = 5 + position % 4
    features = torch.randn(frames, width, generator=generator)
    return features, torch.randint(1, len(TOKENS), (1 + position % 2,), generator=generator).tolist()


def batch_of(positions, speakers=None):
    """A collated batch of the made-up corpus."""
    positions = list(positions)
    features, labels = zip(*(utterance(position) for position in positions), strict=True)
    lengths = torch.tensor([len(item) for item in features])
    return {
        "input_features": torch.nn.utils.rnn.pad_sequence(list(features), batch_first=True),
        "attention_mask": (torch.arange(int(lengths.max()))[None] < lengths[:, None]).long(),
        "labels": torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(item) for item in labels], batch_first=True, padding_value=-100
        ),
        "ids": [f"corpus/{position:03d}" for position in positions],
        "speakers": list(speakers) if speakers else [f"s{position % 2}" for position in positions],
    }


def ids_of(count):
    return [f"corpus/{position:03d}" for position in range(count)]


def transcripts_of(count):
    return [" ".join(TOKENS[label] for label in utterance(position)[1]) for position in range(count)]


def loader(batch_size=3, after_batch=None):
    """A dataloader factory: positions -> batches; `after_batch` is called after each, to fail on purpose."""

    def batches(positions):
        for start in range(0, len(positions), batch_size):
            yield batch_of(positions[start : start + batch_size])
            if after_batch is not None:
                after_batch(positions[start])

    return batches


def mean_pool(**options):
    return TeacherPool([teacher(seed, **options) for seed in range(2)], AggregationSettings("logprob_mean"))


def routed_pool(policy="error", **options):
    teachers = [teacher(0, "zero", {"s0"}, **options), teacher(1, "one", {"s1"}, **options)]
    return TeacherPool(teachers, AggregationSettings("route", policy))


def manifest_for(pool, **options):
    return manifest_of(pool, "made-up", ids_of(COUNT), transcripts_of(COUNT), **{"shard_size": SHARD} | options)
