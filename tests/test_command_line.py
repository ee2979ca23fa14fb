"""Configuration files and command lines: what wins, what is refused, and that nothing is read as something else."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from kd_asr_slr.arguments import DataArguments, DistillationArguments, ModelArguments, TeacherArguments
from kd_asr_slr.command_line import as_dict, parse, resolved
from kd_asr_slr.errors import UserError
from kd_asr_slr.tool_arguments import ScoreArguments

CLASSES = [DataArguments, ModelArguments, TeacherArguments, DistillationArguments]
NEEDED = "manifest: m.csv\noutput_dir: out\nteachers: [runs/a]\n"


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """Parse a YAML text and a command line; returns every value by name."""

    def read(text: str = "", *words: str, needed: str = NEEDED) -> dict[str, Any]:
        path = tmp_path / "config.yaml"
        path.write_text(needed + text, encoding="utf-8")
        instances = parse(CLASSES, ["--config", str(path), *words])
        return {item.name: getattr(part, item.name) for part in instances for item in dataclasses.fields(part)}

    return read


def refusal(*parts: str) -> Any:
    """`pytest.raises` for a `UserError` whose message has all parts, in any order."""
    return pytest.raises(UserError, match="".join(f"(?=[\\s\\S]*{part})" for part in parts))


# -- precedence ----------------------------------------------------------------------------------------------------


def test_defaults_yaml_and_command_line(read: Any) -> None:
    values = read("alpha: 0.5\nbeta: 0.25\n", "--beta", "0.125", "--seed=9")
    assert (values["alpha"], values["beta"], values["seed"]) == (0.5, 0.125, 9)
    assert values["gamma"] == 0.0  # neither says anything
    assert values["teachers"] == ["runs/a"]


def test_the_command_line_replaces_a_list_and_may_empty_it(read: Any) -> None:
    text = "train_speakers: [anna, bert]\n"
    assert read(text)["train_speakers"] == ["anna", "bert"]
    assert read(text, "--train_speakers", "cleo")["train_speakers"] == ["cleo"]
    assert read(text, "--train_speakers")["train_speakers"] == []
    assert read("hard_losses: []\n")["hard_losses"] == []


def test_the_last_of_two_options_on_the_command_line_wins(read: Any) -> None:
    assert read("", "--alpha", "0.1", "--alpha", "0.2")["alpha"] == 0.2


def test_hyphens_on_the_command_line(read: Any) -> None:
    assert read("", "--learning-rate", "1e-3")["learning_rate"] == 1e-3


# -- values are read as they are written ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("learning_rate: 1e-4", 1e-4),  # a text, to PyYAML
        ("learning_rate: 5E-05", 5e-5),
        ("learning_rate: '3e-4'", 3e-4),
        ("learning_rate: 1", 1.0),
        ("early_stopping_min_delta: -0.5", -0.5),
        ("early_stopping_min_delta: -1e-3", -1e-3),
        ("seed: 010", 10),  # 8, to PyYAML
        ("cache_hidden_layers: [-1, 2]", [-1, 2]),
        ("train_speakers: ['01', \"02\"]", ["01", "02"]),
        ("train_speakers: [01, 010, 1:30, no, null-speaker]", ["01", "010", "1:30", "no", "null-speaker"]),
        ("train_speakers: M01", ["M01"]),
        ("train_speakers: [-x, --y]", ["-x", "--y"]),
        ("corpus_name: 2024-01-01", "2024-01-01"),
        ("eval_strategy: no\nsave_strategy: no\nload_best_model_at_end: no", "no"),
        ("use_cpu: true", True),
        ("use_cpu: yes", True),
        ("load_best_model_at_end: false", False),
        ("save_total_limit: null", None),
        ("corpus_options: {seed: 7, x: 1e-2, on: no, deep: {a: [1, true, null, 'b']}}", None),
    ],
)
def test_values_of_yaml(read: Any, text: str, expected: Any) -> None:
    value = read(text + "\n")[text.partition(":")[0]]
    if isinstance(value, str) and value.startswith("{"):
        assert as_dict(value) == {"seed": 7, "x": 0.01, "on": "no", "deep": {"a": [1, True, None, "b"]}}
    else:
        assert getattr(value, "value", value) == expected


def test_mappings_and_json_mean_the_same(read: Any) -> None:
    from_yaml = read("temperature_milestones: {30: 3.5, 70: 3.0}\nmodel_options: {dropout: 2e-1}\n")
    words = ("--temperature_milestones", '{"30": 3.5, "70": 3.0}', "--model_options", '{"dropout": 0.2}')
    from_line = read("", *words)
    for name in ("temperature_milestones", "model_options"):
        assert as_dict(from_yaml[name]) == as_dict(from_line[name])
    assert as_dict(from_yaml["temperature_milestones"]) == {"30": 3.5, "70": 3.0}
    assert as_dict(None) == as_dict("") == {}


@pytest.mark.parametrize(("words", "expected"), [(["--use_cpu"], True), (["--use_cpu", "false"], False)])
def test_booleans_on_the_command_line(read: Any, words: list[str], expected: bool) -> None:
    assert read("use_cpu: true\n", *words)["use_cpu"] is expected


def test_negative_numbers_on_the_command_line(read: Any) -> None:
    assert read("", "--early_stopping_min_delta", "-1e-3")["early_stopping_min_delta"] == -1e-3
    assert read("", "--cache_hidden_layers", "-1", "3")["cache_hidden_layers"] == [-1, 3]


# -- refusals ------------------------------------------------------------------------------------------------------


def test_unknown_keys_are_refused_with_a_suggestion(read: Any) -> None:
    with refusal("config.yaml: unknown option 'learning_rat'; did you mean 'learning_rate'"):
        read("learning_rat: 1\n")
    with refusal("the command line: unknown option 'alhpa'; did you mean 'alpha'"):
        read("", "--alhpa", "1")
    with refusal("unknown option 'xyzzy'\\.$"):
        read("", "--xyzzy", "1")
    for name in ("config", "help"):  # options of the command line only
        with refusal(f"unknown option '{name}'"):
            read(f"{name}: other.yaml\n")
    with refusal("unknown option '<<'"):
        read("<<: other\n")


def test_every_problem_is_reported_at_once(read: Any) -> None:
    text = (
        "learning_rate: fast\nfoo: 1\nseed: 1.5\nalpha: 0.5\nalpha: 0.6\nunknown_speaker: ignore\nmedia_check: some\n"
    )
    with pytest.raises(UserError) as caught:
        read(text, "--bar", "2", "--layer_map", "[1]", "--gate_temperature", "0")
    message = str(caught.value)
    for part in (
        "the configuration: 9 problems", "invalid float value: 'fast'", "invalid int value: '1.5'",
        "unknown option 'foo'", "unknown option 'bar'",
        "'alpha' was already set on line 7", "'layer_map' is not a JSON object", "unknown_speaker is 'ignore'",
        "media_check is 'some'", "gate_temperature is 0.0",
    ):  # fmt: skip
        assert part in message


def test_a_key_that_stands_twice_is_refused(read: Any) -> None:
    with refusal("config.yaml: line 5: 'alpha' was already set on line 4"):
        read("alpha: 0.5\nalpha: 0.6\n")
    with refusal("line 4: 'seed' was already set on line 4"):
        read("corpus_options: {seed: 1, seed: 2}\n")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("use_cpu: perhaps", ["Truthy value expected: got perhaps"]),
        ("seed:", ["'seed' is empty"]),
        ("train_speakers:", ["'train_speakers' is empty"]),
        ("train_speakers: [a, [b]]", ["line 4: an item of 'train_speakers' is a list"]),
        ("train_speakers: [a, null]", ["an item of 'train_speakers' is nothing"]),
        ("train_speakers: {anna: runs/a}", ["'train_speakers' is a mapping; expected a list"]),
        ("corpus: {a: 1}", ["'corpus' is a mapping; expected one value"]),
        ("corpus: [a, b]", ["'corpus' takes one value; found a b"]),
        ("corpus: []", ["expected one argument"]),
        ("layer_map: [1, 2]", ["'layer_map' takes one value"]),
        ("layer_map: word", ["'layer_map' is not valid JSON"]),
        ("lr_scheduler_kwargs: '{a'", ["'lr_scheduler_kwargs' is not valid JSON"]),
        ("lr_scheduler_type: square", ["invalid choice: 'square'", "cosine"]),
        ("{a: 1}: 2", ["a key is a mapping"]),
        ("learning_rate: -1", ["learning_rate is -1.0; expected 0 or more"]),
        ("learning_rate: nan", ["learning_rate is nan"]),
        ("num_train_epochs: 0", ["num_train_epochs is 0.0; expected more than 0"]),
        ("per_device_train_batch_size: 0", ["per_device_train_batch_size is 0; expected 1 or more"]),
        ("gradient_accumulation_steps: 0", ["gradient_accumulation_steps is 0"]),
        ("metric_for_best_model: cer", ["metric_for_best_model is 'cer'; expected wer, wra or loss"]),
        ("report_to: [tensorboard, blackboard]", ["report_to has 'blackboard'", "tensorboard"]),
        ("accelerator_config: nowhere.json", ["nowhere.json"]),
        ("eval_strategy: no", ["load_best_model_at_end requires the save and eval strategy to match"]),
        ("early_stopping_patience: -1", ["early_stopping_patience is -1"]),
        ("remove_unused_columns: true", ["remove_unused_columns is true; expected false"]),
        ("label_smoothing_factor: 0.1", ["--decoder_label_smoothing"]),
        ("split_policy: held_out_speaker", ["needs --held_out_speakers"]),
        ("held_out_speakers: [a]", ["held_out_speakers is given but not used"]),
        ("generalist_weight: 1.5", ["generalist_weight is 1.5; expected 0 to 1"]),
    ],
)
def test_values_that_cannot_be_used(read: Any, text: str, parts: list[str]) -> None:
    with refusal(*parts):
        read(text + "\n")


def test_what_a_run_needs() -> None:
    with refusal("no corpus is given", "no run folder; set --output_dir", "no teachers are given"):
        parse(CLASSES, [])
    with refusal("no run to score; set --run FOLDER"):
        parse([ScoreArguments], [])
    with refusal("lm is given but decoder 'greedy' has no use for it", "beam_width is 0"):
        parse([ScoreArguments], ["--run", "r", "--lm", "a.arpa", "--beam_width", "0"])


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["stray", "--alpha", "1"], "'stray' stands before any option"),
        (["--config"], "--config takes one YAML file; found none"),
        (["--config", "a.yaml", "b.yaml"], "--config takes one YAML file; found a.yaml b.yaml"),
        (["--config", "nowhere/a.yaml"], "there is no configuration file nowhere/a.yaml"),
        (["--learning_rate"], "expected one argument"),
        (["--learning_rate", "1", "2"], "'learning_rate' takes one value; found 1 2"),
    ],
)
def test_command_lines_that_cannot_be_read(words: list[str], part: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(CLASSES, words)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "holds nothing; expected a mapping of option: value"),
        (b"# only a comment\n", "holds nothing"),
        (b"- alpha\n- beta\n", "holds a list"),
        (b"alpha\n", "holds the single value 'alpha'"),
        (b"alpha: [1\n", "is not valid YAML"),
        (b"alpha: 1\n---\nbeta: 2\n", "is not valid YAML"),
        (b"\talpha: 1\n", "is not valid YAML"),
        (b"alpha: \xff\xfe\n", "cannot be read"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, content: bytes, part: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        parse(CLASSES, ["--config", str(path)])
    assert part in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with refusal("cannot be read"):
        parse(CLASSES, ["--config", str(tmp_path)])


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"manifest: !!python/object/apply:pathlib.Path.touch ['{tmp_path}/touched']\n", encoding="utf-8")
    with pytest.raises(UserError):
        parse(CLASSES, ["--config", str(path)])
    assert not (tmp_path / "touched").exists()


# -- resolved ------------------------------------------------------------------------------------------------------


def test_the_resolved_configuration_gives_the_same_run(tmp_path: Path) -> None:
    line = ["--manifest", "m.csv", "--output_dir", "out", "--teachers", "01=runs/a", "no=runs/b", "--report_to", "none"]
    line += ["--layer_map", '{"1": 2}', "--learning_rate", "1e-5", "--save_total_limit", "7", "--corpus_name", "1e5"]
    line += ["--lr_scheduler_kwargs", '{"num_cycles": 2}', "--metric_for_best_model", "wra", "--use_cpu", "true"]
    first = resolved(*parse(CLASSES, line))
    path = tmp_path / "resolved_config.yaml"
    path.write_text(yaml.safe_dump(first, sort_keys=False), encoding="utf-8")
    again = resolved(*parse(CLASSES, ["--config", str(path)]))
    assert again == first
    assert first["layer_map"] == {"1": 2}
    assert first["greater_is_better"] is True
    assert first["teachers"] == ["01=runs/a", "no=runs/b"]
    assert set(first) == {item.name for cls in CLASSES for item in dataclasses.fields(cls) if item.init}


def test_the_resolved_configuration_is_plain(tmp_path: Path) -> None:
    def check(value: Any) -> None:
        if isinstance(value, dict):
            assert all(isinstance(key, str) for key in value)
        elif not isinstance(value, list):
            assert value is None or type(value) in (str, int, float, bool)
            assert not str(value).startswith(("<", "AcceleratorConfig(")), value
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else []:
            check(item)

    check(resolved(*parse(CLASSES, ["--manifest", "m.csv", "--output_dir", "out", "--teachers", "a"])))
