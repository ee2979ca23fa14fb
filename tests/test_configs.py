"""Every YAML file in configs/: it parses with the recipe it names, and what it asks for can be built."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import kd_asr_slr.arguments
import kd_asr_slr.tool_arguments
from kd_asr_slr.arguments import DataArguments, DistillationArguments, ModelArguments
from kd_asr_slr.command_line import as_dict, parse
from kd_asr_slr.corpora.build import CORPORA
from kd_asr_slr.corpora.splits import POLICIES
from kd_asr_slr.corpora.synthetic_sign import SignOptions
from kd_asr_slr.corpora.synthetic_speech import SpeechOptions
from kd_asr_slr.errors import UserError
from kd_asr_slr.losses.table import build_losses
from kd_asr_slr.models.auto import MODELS, takes_waveform
from kd_asr_slr.processing.augmentation import build_augmentation
from kd_asr_slr.processing.layouts import LAYOUTS
from kd_asr_slr.processing.pieces import PieceTokenizer
from kd_asr_slr.processing.sign import SignFeatureExtractor, SignProcessor
from kd_asr_slr.processing.speech import SpeechFeatureExtractor, SpeechProcessor
from kd_asr_slr.processing.tokenization import LabelTokenizer
from kd_asr_slr.text import NORMALISERS
from kd_asr_slr.training.data import augmentation_of
from kd_asr_slr.training.settings import aggregation_settings, label_settings, loss_settings, temperature_schedule
from kd_asr_slr.training.student import build_student

REPOSITORY = Path(__file__).resolve().parent.parent
EVERYTHING = sorted((REPOSITORY / "configs").rglob("*.y*ml"))
# A declared table of runs is no configuration of a run; its rows are (see test_experiment_configs).
CONFIGS = [path for path in EVERYTHING if "recipes/experiment.py" not in path.read_text(encoding="utf-8")]
NAMES = [str(path.relative_to(REPOSITORY)) for path in CONFIGS]
RECIPE = re.compile(r"recipes/(\w+)\.py --config (\S+)")


def header(path: Path) -> list[tuple[str, str]]:
    """The (recipe, config) pairs of the commands in a file's opening comment."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = "\n".join(line for line in lines[: next(i for i, line in enumerate(lines) if line[:1] != "#")])
    return RECIPE.findall(comment)


def classes_of(recipe: str) -> list[type]:
    """The argument classes a recipe parses, read from its source."""
    tree = ast.parse((REPOSITORY / "recipes" / f"{recipe}.py").read_text(encoding="utf-8"))
    (call,) = [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "parse"
    ]
    rooms = (kd_asr_slr.arguments, kd_asr_slr.tool_arguments)
    return [next(getattr(room, name.id) for room in rooms if hasattr(room, name.id)) for name in call.args[0].elts]


def parsed(path: Path, *words: str) -> SimpleNamespace:
    """A configuration as the recipe named last in its header reads it (a cache is written before it is used)."""
    recipe, _ = header(path)[-1]
    classes = classes_of(recipe)
    parts = parse(classes, ["--config", str(path), "--use_cpu", "true", "--output_dir", "out", *words])
    by_class = dict(zip(classes, parts, strict=True))
    return SimpleNamespace(
        recipe=recipe,
        data=by_class[DataArguments],
        model=by_class[ModelArguments],
        training=by_class[DistillationArguments],
        teaching=by_class.get(kd_asr_slr.arguments.TeacherArguments),
    )


def processor_for(run: SimpleNamespace) -> Any:
    """The processor a configuration asks for, with two labels; statistics of raw features are left out."""
    specials = MODELS[run.model.model].has_decoder
    texts = ["AB BA"] if run.model.tokenizer_kind == "words" else ["AB"]
    if run.model.tokenizer_kind == "pieces":
        tokenizer = PieceTokenizer.from_texts(texts, vocabulary_size=6, decoder_specials=specials)
    else:
        tokenizer = LabelTokenizer.from_texts(texts, kind=run.model.tokenizer_kind, decoder_specials=specials)
    options = as_dict(run.model.feature_options)
    if run.data.corpus.endswith("_sign") or run.model.features in ("raw", *LAYOUTS):
        return SignProcessor(SignFeatureExtractor(layout=run.model.features or "raw", **options), tokenizer)
    kind = run.model.features or ("waveform" if takes_waveform(run.model.model) else "log_mel")
    return SpeechProcessor(SpeechFeatureExtractor(kind=kind, **options), tokenizer)


def test_there_are_configurations() -> None:
    folders = {path.parent.name for path in CONFIGS}
    assert {"fsdd", "demo"} <= folders
    assert len(CONFIGS) >= 8
    assert {header(path)[-1][0] for path in CONFIGS} == {"train", "adapt_teachers", "distill"}


@pytest.mark.parametrize("path", CONFIGS, ids=NAMES)
def test_the_header_says_how_it_is_run(path: Path) -> None:
    commands = header(path)
    assert commands, f"{path} has no 'recipes/NAME.py --config FILE' in its opening comment"
    for recipe, named in commands:
        assert (REPOSITORY / "recipes" / f"{recipe}.py").is_file()
        assert named == path.relative_to(REPOSITORY).as_posix(), "the command names another file"


@pytest.mark.parametrize("path", CONFIGS, ids=NAMES)
def test_it_parses(path: Path) -> None:
    for recipe, _ in header(path):
        words = [] if re.search(r"^output_dir:", path.read_text(encoding="utf-8"), re.M) else ["--output_dir", "out"]
        parse(classes_of(recipe), ["--config", str(path), "--use_cpu", "true", *words])


@pytest.mark.parametrize("path", CONFIGS, ids=NAMES)
def test_what_it_asks_for_builds(path: Path) -> None:
    run = parsed(path)
    check_data(run.data)
    settings = loss_settings(run.training)
    if run.recipe == "train":
        settings = label_settings(settings)
    schedule = temperature_schedule(run.training)
    assert schedule.at(0) == run.training.temperature
    build_augmentation(augmentation_of(run.training), run.training.seed)
    if run.teaching is not None:
        assert aggregation_settings(run.teaching).problems() == []
        assert settings.uses_teachers
    if run.model.model in MODELS:
        processor = processor_for(run)
        student = build_student(run.model, processor, seed=run.training.seed)
        assert student.config.vocab_size == len(processor.tokens)
        eos_id = processor.tokenizer.eos_id
    else:  # starts from a run that another configuration makes
        assert (run.model.model, run.model.model_options) in ((made, None) for made in output_folders())
        eos_id = 2 if "cross_entropy" in run.training.hard_losses else None  # of that run's tokenizer
    known = {"blank_id": 0, "eos_id": eos_id, "frame_seconds": 0.04}
    losses = build_losses(settings, **known)
    assert sum(item.weight for item in losses) == pytest.approx(
        run.training.alpha + run.training.beta + run.training.gamma if run.recipe == "distill" else 1.0
    )


@pytest.mark.parametrize("path", CONFIGS, ids=NAMES)
def test_the_folders_it_reads_are_made_by_others(path: Path) -> None:
    run = parsed(path)
    made = output_folders()
    read = [run.model.vocabulary, run.model.model if run.model.model not in MODELS else None]
    if run.teaching is not None:
        read += [entry.partition("=")[2] or entry for entry in run.teaching.teachers]
        read += [run.teaching.generalist, run.teaching.baseline_run]
    missing = [folder for folder in read if folder and folder not in made]
    assert not missing, f"no configuration writes {missing}"


def test_an_unknown_key_is_seen(tmp_path: Path) -> None:
    for path in CONFIGS:
        copy = tmp_path / path.name
        copy.write_text(path.read_text(encoding="utf-8") + "\nlearning_rat: 1\n", encoding="utf-8")
        with pytest.raises(UserError, match="unknown option 'learning_rat'; did you mean 'learning_rate'"):
            parsed(copy)


def test_an_unknown_option_of_the_model_is_seen() -> None:
    path = next(path for path in CONFIGS if parsed(path).model.model == "bilstm")
    run = parsed(path, "--model_options", '{"hiden_size": 8}')
    with pytest.raises(UserError, match="there is no option 'hiden_size', did you mean 'hidden_size'"):
        build_student(run.model, processor_for(run), seed=0)


def check_data(data: DataArguments) -> None:
    """The names a configuration gives its corpus, split and texts exist; a synthetic corpus accepts its options."""
    assert data.corpus in CORPORA
    assert data.split_policy in POLICIES
    assert data.normaliser in NORMALISERS
    synthetic = {"synthetic_speech": SpeechOptions, "synthetic_sign": SignOptions}
    if data.corpus in synthetic:
        synthetic[data.corpus](**as_dict(data.corpus_options))


def output_folders() -> set[str]:
    """Where the configurations write, and where the commands in their headers do."""
    folders = set()
    for path in CONFIGS:
        text = path.read_text(encoding="utf-8")
        folders |= set(re.findall(r"^output_dir: (\S+)", text, re.M)) | set(re.findall(r"--output_dir (\S+)", text))
    # One teacher a speaker: the header names one of them, the Makefile makes the others.
    patterns = [re.sub(r"-\w+$", "-", folder) for folder in folders if "teacher-" in folder]
    teachers = {entry for path in CONFIGS for entry in re.findall(r"=(runs/[\w/-]+)", path.read_text(encoding="utf-8"))}
    return folders | {teacher for teacher in teachers if any(teacher.startswith(prefix) for prefix in patterns)}
