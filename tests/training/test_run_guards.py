"""What keeps a run from going wrong unnoticed: damaged checkpoints, two processes, losses of NaN, other data."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from tiny_runs import assemble, cache, do_run

from kd_asr_slr.corpora.media import content_fingerprint
from kd_asr_slr.errors import UserError
from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.training.trainer import refuse_not_finite


def test_a_loss_that_is_no_number_ends_the_run(speech: Path, tmp_path: Path) -> None:
    def spoil(run: SimpleNamespace) -> None:
        run.trainer.losses[0].loss._logits = lambda output: output.logits * float("nan")

    with pytest.raises(UserError, match="loss_ctc became nan by epoch 1.00; expected finite losses"):
        do_run(spoil, data_dir=speech, output_dir=tmp_path / "run")
    assert not (tmp_path / "run" / "results.json").exists()


def test_finite_losses_pass() -> None:
    refuse_not_finite({"loss": 1.0, "loss_ctc": 0.0, "eval_wer": 1.0, "learning_rate": float("nan")}, 1.0)


def test_a_folder_is_trained_in_by_one_process(speech: Path, tmp_path: Path) -> None:
    def second(run: SimpleNamespace) -> None:
        with pytest.raises(UserError, match="another process is training in"):
            do_run(data_dir=speech, output_dir=tmp_path / "run")

    def then_fail(run: SimpleNamespace) -> None:
        train = run.trainer.train

        def training(**options: object) -> object:
            second(run)
            return train(**options)

        run.trainer.train = training

    do_run(then_fail, data_dir=speech, output_dir=tmp_path / "run")
    assert RunFolder(tmp_path / "run").record()["status"] == "finished"


def test_a_checkpoint_with_damaged_weights_is_passed_over(speech: Path, tmp_path: Path) -> None:
    do_run(data_dir=speech, output_dir=tmp_path / "run", num_train_epochs=2)
    folder = RunFolder(tmp_path / "run")
    first, last = sorted(folder.path.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    assert folder.last_checkpoint() == last
    weights = last / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert folder.last_checkpoint() == first


def test_a_cache_of_other_recordings_under_the_same_ids_is_refused(
    speech: Path, specialists: list[str], tmp_path: Path
) -> None:
    copy = tmp_path / "speech"
    shutil.copytree(speech, copy)
    store = cache(tmp_path / "cache", data_dir=copy, teachers=specialists, output_dir=tmp_path / "run")
    options = {"data_dir": copy, "teachers": specialists, "teacher_cache": store, "output_dir": tmp_path / "run"}
    assemble(**options)
    file = next(copy.rglob("*train00.wav"))
    samples, rate = soundfile.read(file)
    soundfile.write(file, np.roll(samples, 100), rate, subtype="PCM_16")  # as long, and something else
    with pytest.raises(UserError, match=r"content of the corpus's files \(fingerprint\)"):
        assemble(**options)


def test_the_fingerprint_is_of_content_and_order(tmp_path: Path) -> None:
    one, two, copy = (tmp_path / name for name in ("one", "two", "copy"))
    one.write_bytes(b"a" * 200_000)
    two.write_bytes(b"a" * 199_999 + b"b")
    shutil.copy(one, copy)
    assert content_fingerprint([one, two]) == content_fingerprint([copy, two])
    assert len({content_fingerprint(paths) for paths in ([one, two], [two, one], [one, one], [one])}) == 4
