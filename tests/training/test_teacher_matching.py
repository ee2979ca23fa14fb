"""Matching, diagnostics and guards of teachers in real runs: what folders say of their training, and who is refused."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import assemble, check, do_run, parsed

from kd_asr_slr.errors import UserError
from kd_asr_slr.scoring.alignment import count_errors
from kd_asr_slr.training.dev_scores import other_protocols
from kd_asr_slr.training.training_data import identity_of, read_training_data

MEAN = {"aggregation": "logprob_mean"}
HELD_OUT = {"split_policy": "held_out_speaker", "held_out_speakers": ["s02"]}
WORDS = ["BATA", "PADA", "PATA", "TAPA"]


@pytest.fixture()
def forgetful(specialists: list[str], tmp_path: Path) -> list[str]:
    """The teachers, but the second one was trained without TAPA."""
    first, second = (entry.split("=") for entry in specialists)
    folder = tmp_path / "forgetful"
    shutil.copytree(second[1], folder)
    content = json.loads((folder / "training_data.json").read_text())
    assert content["transcripts"] == WORDS
    content["transcripts"] = WORDS[:3]
    (folder / "training_data.json").write_text(json.dumps(content))
    return ["=".join(first), f"{second[0]}={folder}"]


def test_a_run_says_whom_and_what_it_heard(speech: Path, specialists: list[str], generalist: Path) -> None:
    record = read_training_data(specialists[0].split("=")[1])
    assert record is not None
    assert record.speakers == ["synthetic_speech/s01"] and record.transcripts == WORDS
    assert record.inherited_speakers == ["synthetic_speech/s01", "synthetic_speech/s02"]  # of the generalist
    assert record.corpus == identity_of(parsed(data_dir=speech, output_dir="unused").data)
    assert read_training_data(generalist).inherited_speakers == []


def test_partial_matching_in_a_run(
    speech: Path, forgetful: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"data_dir": speech, "teachers": forgetful, "teacher_matching": "partial", **MEAN}
    with caplog.at_level(logging.INFO):
        do_run(output_dir=tmp_path / "run", **options)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["aggregation"] == {
        "name": "logprob_mean",
        "generalist_weight": 0.0,
        "unknown_speaker": "error",
        "teacher_matching": "partial",
        "min_teachers": 1,
        "mean_teachers": 1.75,  # both for three words, one for TAPA
    }
    assert results["diagnostics"]["teachers_per_utterance"] == 1.75
    assert "| teachers an utterance, on average | 1.75" in " ".join(caplog.text.split())
    strict = assemble(output_dir=tmp_path / "strict", **(options | {"teacher_matching": "strict"}))
    with pytest.raises(
        UserError, match=r"needs 2 of 2 teachers .* fewer have 's01-TAPA-train00' .TAPA., .* and 1 more"
    ):
        check(strict)
    do_run(output_dir=tmp_path / "skip", **(options | {"teacher_matching": "strict", "unknown_speaker": "skip"}))
    assert json.loads((tmp_path / "skip" / "results.json").read_text())["aggregation"]["mean_teachers"] == 1.5


def test_without_a_record_the_bound_speakers_rows_tell(speech: Path, forgetful: list[str], tmp_path: Path) -> None:
    speaker, folder = forgetful[1].split("=")
    (Path(folder) / "training_data.json").unlink()
    options = {"data_dir": speech, "output_dir": tmp_path / "run", "teacher_matching": "strict", **MEAN}
    pool = assemble(teachers=forgetful, **options).teachers
    assert pool.matching.known[1] == set(WORDS)
    with pytest.raises(UserError, match=f"nothing says which words teacher {folder} was trained on"):
        assemble(teachers=[forgetful[0], folder], **options)


def test_matching_where_one_teacher_is_asked(
    speech: Path, specialists: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = assemble(data_dir=speech, output_dir=tmp_path, teachers=specialists, teacher_matching="strict")
    assert run.teachers.matching is None
    assert "teacher_matching strict changes nothing: aggregation route asks one teacher" in caplog.text
    with pytest.raises(UserError, match="min_teachers is 2 and teacher_matching 'all' has no use for it"):
        parsed(data_dir=speech, output_dir=tmp_path, teachers=specialists, min_teachers=2)


def test_a_teacher_that_heard_the_held_out_speaker(
    speech: Path, generalist: Path, specialists: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"data_dir": speech, "output_dir": tmp_path / "run", **HELD_OUT}
    wanted = f"teacher {generalist} was trained on synthetic_speech/s02, who is held out"
    with pytest.raises(UserError, match=wanted):
        assemble(teachers=[generalist], **options)
    with pytest.raises(UserError, match=f"{specialists[0].split('=')[1]} was trained on synthetic_speech/s02"):
        assemble(teachers=specialists[:1], **options)  # through the generalist that it was adapted from
    assemble(teachers=[generalist], held_out_as_teacher=True, **options)
    assert f"DEBUG RUN: {wanted}" in caplog.text
    assemble(teachers=[generalist], data_dir=speech, output_dir=tmp_path / "run")  # nobody is held out


def test_an_older_run_is_judged_by_its_configuration(
    speech: Path, generalist: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = tmp_path / "old"
    shutil.copytree(generalist, old)
    (old / "training_data.json").unlink()
    options: dict[str, Any] = {"data_dir": speech, "output_dir": tmp_path / "run", "teachers": [old], **HELD_OUT}
    assemble(**options)  # as_given and nobody named: not certain
    config = (old / "resolved_config.yaml").read_text()
    (old / "resolved_config.yaml").write_text(config.replace("train_speakers: []", "train_speakers: [s02]"))
    with pytest.raises(UserError, match="old was trained on synthetic_speech/s02, who is held out"):
        assemble(**options)
    # The same names in a corpus that was made with other options are other people.
    other = tmp_path / "other"
    shutil.copytree(generalist, other)
    content = json.loads((other / "training_data.json").read_text())
    content["corpus"]["options"]["seed"] = 4
    (other / "training_data.json").write_text(json.dumps(content))
    assemble(**(options | {"teachers": [other]}))
    assert "or somebody of that name in another corpus: its folder does not tell" in caplog.text


def test_a_generalist_that_never_speaks_is_left_out(
    speech: Path, specialists: list[str], generalist: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"data_dir": speech, "output_dir": tmp_path, "teachers": specialists, "generalist": generalist}
    pool = assemble(**options, **MEAN).teachers
    assert pool.generalist is None and len(pool.everyone) == 2
    assert f"generalist {generalist} never speaks and is left out" in caplog.text
    assert assemble(**options, **MEAN, generalist_weight=0.2).teachers.generalist is not None
    assert assemble(**options, unknown_speaker="generalist").teachers.generalist is not None


def rescored(folder: Path, source: str, protocol: str) -> str:
    """A copy of a run whose dev score was counted by another protocol."""
    shutil.copytree(source, folder)
    results = json.loads((folder / "results.json").read_text())
    for score in results["scores"]:
        score["protocol"] = protocol
    (folder / "results.json").write_text(json.dumps(results))
    return str(folder)


def test_dev_scores_that_do_not_compare(
    speech: Path, specialists: list[str], generalist: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = (entry.split("=")[1] for entry in specialists)
    raw = rescored(tmp_path / "raw", second, "raw")
    wanted = f"the dev WER of {first} was counted by protocol 'words' and that of {raw} by 'raw'"
    assert other_protocols([first, second]) == [] and other_protocols([first, raw])[0].startswith(wanted)
    options: dict[str, Any] = {"data_dir": speech, "output_dir": tmp_path / "run"}
    with pytest.raises(UserError, match=wanted):
        assemble(teachers=[first, raw], aggregation="weighted", **options)
    with pytest.raises(UserError, match="was counted by protocol 'words' and that of"):
        do_run(teachers=[first], baseline_run=raw, **options)
    caplog.clear()
    assemble(teachers=[first, second], aggregation="best", **options)
    assert "different speakers, so that it may prefer the teacher of an easy speaker to a good teacher" in caplog.text
    assert f"{first}: synthetic_speech/s01; {second}: synthetic_speech/s02" in caplog.text


def test_a_combined_target_that_is_worse_than_the_baseline(
    speech: Path, generalist: Path, specialists: list[str], tmp_path: Path
) -> None:
    """A baseline whose predictions are right but whose WER in results.json is not: only the target is refused."""
    baseline = tmp_path / "baseline"
    shutil.copytree(generalist, baseline)
    rows = [json.loads(line) for line in (baseline / "predictions-dev.jsonl").read_text().splitlines()]
    right = [{**row, "hypothesis": row["reference"]} for row in rows]
    (baseline / "predictions-dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in right))
    options = {"data_dir": speech, "teachers": [generalist], "baseline_run": baseline}
    errors = [count_errors(row["reference"].split(), row["hypothesis"].split()) for row in rows]
    wer = sum(count.errors for count in errors) / sum(count.reference_tokens for count in errors)
    with pytest.raises(UserError) as caught:
        do_run(output_dir=tmp_path / "refused", **options)
    message = str(caught.value)
    assert f"the combined target has {100 * wer:.2f} % WER on 16 dev utterances" in message
    assert f"baseline {baseline} 0.00 % on the same ones" in message and "--allow_worse_teacher true" in message
    do_run(output_dir=tmp_path / "allowed", allow_worse_teacher=True, **options)


def test_figures_in_results(speech: Path, generalist: Path, specialists: list[str], tmp_path: Path) -> None:
    keys = {"transcript_loss", "wer", "blank_ratio", "spike_offset_mean", "spike_offset_median", "spike_offset_size"}
    do_run(data_dir=speech, output_dir=tmp_path / "new", teachers=specialists, **MEAN)
    new = json.loads((tmp_path / "new" / "results.json").read_text())["diagnostics"]
    assert keys <= set(new) and new["spikes_of"] == ["teacher", "teacher"]  # the student is not trained yet
    assert new["teachers_per_utterance"] == 2.0 and new["utterances"] == 16
    # A student that starts as its own teacher says everything at the same time, and with the teacher's errors.
    start = {"model": generalist, "model_options": None, "feature_options": None}
    do_run(data_dir=speech, output_dir=tmp_path / "same", teachers=[generalist], **start)
    same = json.loads((tmp_path / "same" / "results.json").read_text())["diagnostics"]
    assert same["spikes_of"] == ["target", "student"] and same["spike_offset_size"] == 0.0
    dev = next(
        item for item in json.loads((generalist / "results.json").read_text())["scores"] if item["split"] == "dev"
    )
    assert same["wer"] == pytest.approx(dev["wer"], abs=1e-4)
    # Against a baseline: the target is heard by the very network it comes from.
    do_run(data_dir=speech, output_dir=tmp_path / "base", teachers=[generalist], baseline_run=generalist)
    base = json.loads((tmp_path / "base" / "results.json").read_text())["diagnostics"]
    assert base["spikes_of"] == ["target", f"baseline {generalist}"] and base["spike_offset_size"] == 0.0
