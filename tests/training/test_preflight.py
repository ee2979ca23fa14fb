"""Every refusal before the first step, in words; and that the check leaves nothing behind."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import assemble, cache, check, do_run, logged, parsed

from kd_asr_slr.errors import UserError
from kd_asr_slr.processing.tokenization import LabelTokenizer
from kd_asr_slr.reporting.run_folder import RunFolder
from kd_asr_slr.training.building import build_trainer
from kd_asr_slr.training.data import load_data

Refusal = Callable[..., str]


@pytest.fixture()
def refusal(speech: Path, tmp_path: Path) -> Refusal:
    """What a run is refused with; its folder must not be there afterwards."""

    def run(**options: Any) -> str:
        options = {"data_dir": speech, "output_dir": tmp_path / "refused", **options}
        with pytest.raises(UserError) as caught:
            do_run(**options)
        assert not (tmp_path / "refused").exists(), "a refused run leaves its folder"
        return str(caught.value)

    return run


def words_of(folder: Path, *words: str) -> Path:
    """A word list, as `--vocabulary` reads it."""
    path = folder / "words.txt"
    path.write_text("\n".join(words) + "\n")
    return path


def test_another_vocabulary_names_the_first_token_that_differs(
    refusal: Refusal, generalist: Path, tmp_path: Path
) -> None:
    vocabulary = words_of(tmp_path, "BATA", "KAPA", "PADA", "PATA", "TAPA")
    message = refusal(teachers=[generalist], vocabulary=vocabulary)
    assert "vocabularies differ: token 2 is 'PADA' in the teachers' list and 'KAPA' in the student's" in message
    assert "build the student with --vocabulary TEACHER_RUN" in message


def test_a_longer_vocabulary_names_what_only_it_has(refusal: Refusal, generalist: Path, tmp_path: Path) -> None:
    message = refusal(teachers=[generalist], vocabulary=words_of(tmp_path, "BATA", "PADA", "PATA", "TAPA", "ZULU"))
    assert "the teachers' list has 5 tokens and the student's has 6" in message and "'ZULU'" in message


def test_the_same_tokens_with_another_blank(speech: Path, generalist: Path, tmp_path: Path) -> None:
    run = assemble(data_dir=speech, output_dir=tmp_path, teachers=[generalist])
    tokens = run.processor.tokens
    run.processor.tokenizer = LabelTokenizer(token_sequence=tokens, kind="words", pad_token=tokens[-1])
    with pytest.raises(UserError, match="the blank is token 0 in the teachers' list and token 4 in the student's"):
        check(run)


def test_other_frame_rates(refusal: Refusal, generalist: Path) -> None:
    message = refusal(teachers=[generalist], model_options={"hidden_size": 8, "num_layers": 1, "stride": 2})
    assert "the teachers have a frame every 0.08 s and the student every 0.04 s" in message
    assert "--rate_matching resample" in message


@pytest.mark.parametrize("matching", ["resample", "shift", "tokens"])
def test_other_frame_rates_are_trained(speech: Path, generalist: Path, tmp_path: Path, matching: str) -> None:
    options = {"model_options": {"hidden_size": 8, "num_layers": 1, "stride": 2}, "rate_matching": matching}
    do_run(data_dir=speech, output_dir=tmp_path, teachers=[generalist], **options)
    assert (tmp_path / "results.json").is_file()
    assert all(np.isfinite(logged(tmp_path, "loss")))


def test_a_loss_that_needs_what_nobody_gives(refusal: Refusal, generalist: Path) -> None:
    message = refusal(teachers=[generalist], soft_losses=["ctc_kd", "decoder_kd"])
    assert "loss 'decoder_kd' needs decoder_log_probs, decoder_logits" in message
    assert "teachers and student give hidden_states, log_probs" in message


def test_hidden_states_of_several_teachers_at_once(refusal: Refusal, specialists: list[str]) -> None:
    hidden = {"gamma": 0.1, "feature_losses": ["hidden"], "layer_map": {"0": 0}}
    message = refusal(teachers=specialists, aggregation="logprob_mean", **hidden)
    assert "hidden states" in message and "logprob_mean" in message and "route" in message


@pytest.mark.parametrize("layer_map", [{"0": 3}, {"3": 0}])
def test_a_layer_that_is_not_there(refusal: Refusal, specialists: list[str], layer_map: dict[str, int]) -> None:
    message = refusal(teachers=specialists, gamma=0.1, feature_losses=["hidden"], layer_map=layer_map)
    assert "layer" in message and "3" in message and "0" in message


def test_words_outside_of_the_vocabulary(refusal: Refusal, tmp_path: Path) -> None:
    message = refusal(vocabulary=words_of(tmp_path, "BATA", "PADA", "PATA"))
    assert "'TAPA'" in message and "outside the vocabulary of 4 tokens" in message
    assert "s01-TAPA-train00" in message and "and 1 more utterances like these" in message  # of 6, 5 are listed


def test_utterances_too_short_for_their_labels(refusal: Refusal, speech: Path, tmp_path: Path) -> None:
    manifest, recordings = relabelled(speech, tmp_path, lambda row: " ".join([row["text"]] * 6))
    message = refusal(corpus="manifest", corpus_options=None, manifest=manifest, data_dir=recordings)
    assert "24 training utterances are too short for their labels after the model's subsampling" in message
    assert "11 needed" in message and "and 19 more" in message and "take them out of the training split" in message


def relabelled(speech: Path, folder: Path, text: Callable[[dict[str, str]], str]) -> tuple[Path, Path]:
    """The synthetic corpus as a manifest with other transcripts in train, and the folder of its media."""
    load_data(parsed(data_dir=speech, output_dir=folder / "unused").data)  # made where no test has asked for it yet
    (source,) = speech.glob("synthetic_speech-*/manifest.csv")
    with source.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["text"] = text(row) if row["split"] == "train" else row["text"]
    path = folder / "manifest.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "path", "text", "speaker", "split"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path, source.parent


def judged(folder: Path, run: Path, errors: int, by_speaker: dict[str, float] | None = None) -> Path:
    """A copy of a run folder's results with so many errors on the 16 words of dev."""
    results = json.loads((run / "results.json").read_text())
    folder.mkdir()
    for score in results["scores"]:
        if score["split"] == "dev":
            score |= {"wer": errors / 16, "substitutions": errors, "deletions": 0, "insertions": 0}
            for speaker, value in (by_speaker or {}).items():
                score["by_speaker"][speaker]["wer"] = value
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def test_a_worse_teacher_is_refused_with_both_numbers(
    refusal: Refusal, speech: Path, generalist: Path, tmp_path: Path
) -> None:
    own = next(item for item in RunFolder(generalist).read_results()["scores"] if item["split"] == "dev")["wer"]
    assert 0.1 < own < 1.0
    baseline = judged(tmp_path / "baseline", generalist, 1)
    message = refusal(teachers=[generalist], baseline_run=baseline)
    assert f"teacher {generalist} has {100 * own:.2f} % WER on dev" in message
    assert f"the student's baseline {baseline} 6.25 %" in message
    assert f"self-distillation: --teachers {baseline}" in message and "--allow_worse_teacher true" in message
    do_run(
        data_dir=speech,
        output_dir=tmp_path / "allowed",
        teachers=[generalist],
        baseline_run=baseline,
        allow_worse_teacher=True,
    )
    equal = judged(tmp_path / "equal", generalist, round(16 * own))
    do_run(data_dir=speech, output_dir=tmp_path / "fine", teachers=[generalist], baseline_run=equal)


def test_a_speakers_teacher_is_compared_on_its_own_speaker(
    refusal: Refusal, specialists: list[str], generalist: Path, tmp_path: Path
) -> None:
    speaker, path = specialists[1].split("=")
    dev = next(item for item in RunFolder(path).read_results()["scores"] if item["split"] == "dev")
    known = {"synthetic_speech/s01": 1.0, f"synthetic_speech/{speaker}": dev["wer"] / 2}
    baseline = judged(tmp_path / "baseline", generalist, 16, known)
    message = refusal(teachers=specialists, baseline_run=baseline)
    assert f"teacher {path} has" in message and f"{100 * dev['wer'] / 2:.2f} %" in message
    assert specialists[0].split("=")[1] not in message


def test_a_speaker_without_a_teacher(refusal: Refusal, specialists: list[str]) -> None:
    message = refusal(teachers=specialists[:1])
    assert "no teacher is bound to synthetic_speech/s02" in message
    assert "--teachers SPEAKER=FOLDER" in message and "--unknown_speaker generalist, logprob_mean or skip" in message


def test_a_speaker_without_a_teacher_by_an_explicit_policy(
    speech: Path, specialists: list[str], tmp_path: Path
) -> None:
    run = do_run(data_dir=speech, output_dir=tmp_path, teachers=specialists[:1], unknown_speaker="skip")
    assert run.trainer.state.global_step == 6


def test_a_dev_split_that_no_teacher_may_speak_for(
    speech: Path, specialists: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Speaker-independent dev: there is nothing to decode the combined target on, which is no reason to stop."""
    load_data(parsed(data_dir=speech, output_dir=tmp_path / "unused").data)  # made where no test has asked for it yet
    (source,) = speech.glob("synthetic_speech-*/manifest.csv")
    with source.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["speaker"] == ("s01" if row["split"] == "train" else "s02")]
    manifest = tmp_path / "manifest.csv"
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "path", "text", "speaker", "split"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    options = {"corpus": "manifest", "corpus_options": None, "manifest": manifest, "data_dir": source.parent}
    with caplog.at_level("INFO"):
        do_run(output_dir=tmp_path / "run", teachers=specialists[:1], **options)
    assert "no teacher may speak for anyone in dev" in caplog.text


def test_an_augmentation_that_changes_lengths_with_cached_targets(
    refusal: Refusal, speech: Path, specialists: list[str], tmp_path: Path
) -> None:
    folder = cache(tmp_path / "targets", data_dir=speech, output_dir=tmp_path / "none", teachers=specialists)
    message = refusal(teachers=specialists, teacher_cache=folder, augmentation=["speed"])
    assert "'speed' changes the length of an utterance, so cached targets no longer fit its frames" in message
    assert "use live teachers" in message


def test_a_cache_made_for_other_utterances(
    refusal: Refusal, speech: Path, specialists: list[str], tmp_path: Path
) -> None:
    options = {"data_dir": speech, "teachers": specialists, "train_speakers": ["s01"]}
    folder = cache(tmp_path / "targets", output_dir=tmp_path / "none", **options)
    message = refusal(teacher_cache=folder)
    assert "made for something else" in message and "12 utterances in the store, 24 in this run" in message


def collapsed(run: SimpleNamespace, index: int = 0, by: float = 50.0) -> None:
    """Make a live teacher say nothing but blanks."""
    with torch.no_grad():
        head = [value for name, value in run.teachers.teachers[index].model.named_parameters() if name.endswith("bias")]
        head[-1][run.processor.blank_id] += by


def test_a_combined_target_that_says_nothing(speech: Path, specialists: list[str], tmp_path: Path) -> None:
    run = assemble(data_dir=speech, output_dir=tmp_path, teachers=specialists, aggregation="logprob_mean")
    collapsed(run)
    with pytest.raises(UserError) as caught:
        check(run)
    message = str(caught.value)
    assert "the combined target has collapsed: blank in 100.0 % of the frames, 100.0 % WER" in message
    assert "--aggregation route" in message


def test_a_cached_target_that_says_nothing(
    speech: Path, generalist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tiny_runs

    build = tiny_runs.build_pool

    def silent(*arguments: Any) -> Any:
        pool = build(*arguments)
        collapsed(SimpleNamespace(teachers=pool, processor=SimpleNamespace(blank_id=0)))
        return pool

    monkeypatch.setattr(tiny_runs, "build_pool", silent)
    options = {"data_dir": speech, "output_dir": tmp_path / "refused"}
    folder = cache(tmp_path / "targets", teachers=[generalist], **options)
    with pytest.raises(UserError, match="the combined target has collapsed: blank in 100.0 % of the frames"):
        do_run(teacher_cache=folder, **options)
    assert not (tmp_path / "refused").exists()


def test_a_loss_that_is_no_number(speech: Path, tmp_path: Path) -> None:
    run = assemble(data_dir=speech, output_dir=tmp_path)
    with torch.no_grad():
        next(run.student.parameters())[0, 0] = float("nan")
    with pytest.raises(UserError) as caught:
        check(run)
    message = str(caught.value)
    assert "the loss of a first batch is nan" in message and "expected finite numbers" in message
    assert "check features and labels of" in message and run.trainer.train_dataset.rows[0]["id"] in message


def test_a_gradient_that_is_no_number(speech: Path, tmp_path: Path) -> None:
    run = assemble(data_dir=speech, output_dir=tmp_path)
    name, value = next(iter(run.student.named_parameters()))
    value.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(UserError, match=f"the gradient of {name} is not finite"):
        check(run)


def test_several_problems_at_once(refusal: Refusal, generalist: Path, tmp_path: Path) -> None:
    message = refusal(
        teachers=[generalist],
        vocabulary=words_of(tmp_path, "BATA", "PADA", "PATA"),
        model_options={"hidden_size": 8, "num_layers": 1, "stride": 2},
        soft_losses=["ctc_kd", "decoder_kd"],
        baseline_run=judged(tmp_path / "baseline", generalist, 0),
    )
    assert message.startswith("preflight: 10 problems")  # 5 utterances listed, "and 1 more", and the four below
    for part in ("outside the vocabulary", "vocabularies differ", "needs decoder_log_probs", "frame every", "worse"):
        assert part in message


def test_nothing_of_the_check_stays(speech: Path, specialists: list[str], tmp_path: Path) -> None:
    options = {"model_options": {"hidden_size": 8, "num_layers": 1, "stride": 4, "dropout": 0.5}}
    options |= {"gamma": 0.2, "feature_losses": ["hidden"], "layer_map": {"0": 0}, "augmentation": ["spec_augment"]}
    run = assemble(data_dir=speech, output_dir=tmp_path, teachers=specialists, **options)
    run.student.register_buffer("seen", torch.zeros(1))
    run.student.register_forward_pre_hook(lambda module, inputs: module.seen.add_(1) and None)
    tensors = {name: value.clone() for name, value in run.student.state_dict().items()}
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    check(run)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1] and random.getstate() == states[2]
    assert all(value.grad is None for value in run.student.parameters())
    assert all(torch.equal(value, tensors[name]) for name, value in run.student.state_dict().items())
    assert list(tmp_path.iterdir()) == [] and run.trainer._sums == {}
    assert all(not teacher.model.training for teacher in run.teachers.teachers)


def test_a_checked_run_trains_the_same_student_as_an_unchecked_one(speech: Path, tmp_path: Path) -> None:
    options = {"data_dir": speech, "output_dir": tmp_path, "save_strategy": "no", "load_best_model_at_end": False}
    options |= {"model_options": {"hidden_size": 8, "num_layers": 1, "stride": 4, "dropout": 0.5}}
    runs = [assemble(**options) for _ in range(2)]
    check(runs[0])
    for run in runs:
        torch.manual_seed(0)
        run.trainer.train()
    one, other = (run.student.state_dict() for run in runs)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_refused_run_leaves_a_folder_with_other_peoples_files_alone(speech: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"notes\.txt"):
        do_run(data_dir=speech, output_dir=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_another_number_of_processes(refusal: Refusal) -> None:
    message = refusal(expected_processes=2)
    assert "the configuration expects 2 processes and 1 is running" in message
    assert "ACCELERATE_USE_CPU=1 torchrun --nproc_per_node 2 recipes/" in message and "--expected_processes" in message


def test_the_expected_number_of_processes(speech: Path, tmp_path: Path) -> None:
    assert do_run(data_dir=speech, output_dir=tmp_path, expected_processes=1).trainer.state.global_step == 6


def test_a_trainer_may_be_built_from_parts(speech: Path, generalist: Path, tmp_path: Path) -> None:
    """`build_trainer` with teachers but without soft losses does not ask them."""
    run = assemble(data_dir=speech, output_dir=tmp_path, teachers=[generalist])
    labels = parsed(data_dir=speech, output_dir=tmp_path).training
    trainer = build_trainer(run.student, run.processor, run.corpus, run.data, labels, run.teachers)
    batch = trainer.data_collator([trainer.train_dataset[0]])
    run.teachers.signal = lambda *_, **__: pytest.fail("a teacher was asked")
    assert trainer.compute_loss(trainer.model, batch).isfinite()
