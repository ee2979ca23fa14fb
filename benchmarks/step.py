"""A training step with cached targets, and with 13 live teachers, against the same step on labels only."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Suite
from scene import Scene, Steps, phoenix_like_lengths, write_landmarks, write_speech

from kd_asr_slr.models.forward import run_ctc
from kd_asr_slr.teachers.batches import batch_to
from kd_asr_slr.training.frame_batches import FrameBatchSampler

TEACHERS = 13
LANDMARKS = {
    "model": "bilstm",
    "model_options": '{"hidden_size": 256, "num_layers": 4, "stride": 4, "dropout": 0.4}',
    "features": "mediapipe_holistic",
    "feature_options": '{"subset": "hands_pose", "velocity": "both"}',
    "normaliser": "none",
}
HYBRID = {  # nvidia/stt_en_conformer_ctc_small and a 4-layer decoder
    "model": "nemo_hybrid",
    "normaliser": "none",
    "soft_losses": ["ctc_kd", "decoder_kd"],
    "hard_losses": ["ctc", "cross_entropy"],
}


def scene_of(folder: Path, device: torch.device, options: dict[str, Any], batch: int, write: Callable) -> Scene:
    """A corpus of a few batches, and its scene; nothing is kept between epochs: a step reads its files."""
    corpus = folder / "corpus"
    corpus.mkdir(parents=True)
    write(corpus)
    settings = {"per_device_train_batch_size": batch, "feature_cache_mb": 0, "dataloader_num_workers": 1}
    settings |= {"dataloader_persistent_workers": "true", "use_cpu": str(device.type == "cpu").lower()}
    return Scene(corpus, folder / "out", **settings, **options)


def cached_targets(suite: Suite, name: str, scene: Scene) -> None:
    """Bar 3, first half: the loader included."""
    sides = {"labels": Steps(scene.trainer()), "cached targets": Steps(scene.trainer(scene.cached()))}
    timing = suite.time(sides, repeats=7)
    ratio = timing.ratio("cached targets", "labels")
    suite.at_most(f"{name}: a step with cached targets over one with labels only", ratio, 1.1, timing)


def live_teachers(suite: Suite, name: str, scene: Scene) -> None:
    """Bar 3, second half: the step against the student's own and one plain forward pass for each teacher."""
    pool = scene.pool(TEACHERS)
    live, labels = Steps(scene.trainer(pool)), Steps(scene.trainer())
    device = labels.trainer.args.device

    def forward_passes() -> list[torch.Tensor]:
        batch = batch_to(labels(), device)
        with torch.no_grad():
            return [run_ctc(teacher.model, batch).logits for teacher in pool.teachers]

    timing = suite.time({"forward passes": forward_passes, "live teachers": live}, repeats=7, warm_up=1)
    suite.at_most(
        f"{name}: a step with {TEACHERS} live teachers over the student's step and {TEACHERS} forward passes",
        timing.ratio("live teachers", "forward passes"),
        1.0,
        timing,
        "beside the forward passes: the teachers' mean and the loss",
    )
    batch = batch_to(labels.batch()[0][0], device)
    with torch.no_grad():
        outputs = [run_ctc(teacher.model, batch) for teacher in pool.teachers]
        mean = torch.stack([output.logits.float().log_softmax(-1) for output in outputs]).mean(0).log_softmax(-1)
        signal = pool.signal(batch)
    valid = torch.arange(mean.shape[1], device=device) < outputs[0].logit_lengths[:, None]
    suite.agree("mean of the live teachers", signal.log_probs[valid], mean[valid], relative=1e-4)


def padding(suite: Suite) -> None:
    """Batches by frames: how much of them is padding."""
    lengths = phoenix_like_lengths(5671)
    sampler = FrameBatchSampler(lengths, int(24 * lengths.mean()), seed=0)
    shuffled = lengths[np.random.default_rng(0).permutation(len(lengths))[: 24 * 236]].reshape(-1, 24)
    plain = 1 - shuffled.sum() / (24 * shuffled.max(1)).sum()
    each = len(lengths) / len(sampler)
    note = f"{each:.1f} utterances a batch; random batches of 24: {100 * plain:.1f} %"
    suite.at_most("padding of batches by frames, PHOENIX-like lengths, %", 100 * sampler.padding, 15, note=note)


def main() -> int:
    """The exit status: 1 where two sides disagree."""
    suite = Suite("step", __doc__.splitlines()[0])
    padding(suite)
    with tempfile.TemporaryDirectory() as folder:
        batch = 8 if suite.device.type == "cpu" else 24
        lengths = phoenix_like_lengths(6 * batch)
        write = partial(write_landmarks, lengths=lengths)
        bilstm = scene_of(Path(folder) / "landmarks", suite.device, LANDMARKS, batch, write)
        cached_targets(suite, "BiLSTM", bilstm)
        if not suite.quick:
            small = scene_of(Path(folder) / "few", suite.device, LANDMARKS, max(batch // 2, 4), write)
            live_teachers(suite, "BiLSTM", small)
            seconds = np.random.default_rng(0).uniform(1.5, 4, 4 * batch)
            write = partial(write_speech, seconds=seconds)
            hybrid = scene_of(Path(folder) / "speech", suite.device, HYBRID, max(batch // 2, 4), write)
            cached_targets(suite, "NeMo hybrid (small)", hybrid)
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
