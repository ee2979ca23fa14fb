"""Caches, output folders and runs that cannot be used: one clear message, exit code 2, nothing half-written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from recipe_runs import (
    LEARNER,
    Refuse,
    change_rows,
    distillation,
    run,
)

# -- caches --------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(soft_targets: Path, tmp_path: Path) -> Path:
    """A copy of the finished cache of the tiny corpus."""
    return Path(shutil.copytree(soft_targets, tmp_path / "cache"))


def test_a_cache_that_is_not_there(distil: Refuse, tmp_path: Path) -> None:
    distil("there is no store of soft targets", "recipes/cache_teachers.py", teacher_cache=tmp_path / "nowhere")
    distil("set --teacher_cache FOLDER", recipe="cache_teachers")


def test_a_cache_made_for_other_data(distil: Refuse, cache: Path, copied: Path) -> None:
    options = {"teacher_cache": cache, "cache_shard_size": 6}
    change_rows(copied, lambda rows: [row for row in rows if row["id"] != "anna-ONE-train0"])
    parts = ["made for something else", "24 utterances in the store, 23 in this run"]
    distil(*parts, manifest=copied, **options)
    distil(*parts, manifest=copied, recipe="cache_teachers", **options)
    distil(*parts, manifest=copied, teachers=None, **options)  # the cache alone is compared too
    change_rows(copied, lambda rows: rows + [dict(rows[0], id="anna-ONE-train9")])
    distil("other ids or another order", manifest=copied, **options)
    distil("name of the corpus", "'tones' in the store, 'bells' in this run", corpus_name="bells", **options)


def test_a_cache_of_other_teachers_or_another_aggregation(
    distil: Refuse, cache: Path, speech_run: Path, broken: Path
) -> None:
    options = {"teacher_cache": cache, "cache_shard_size": 6}
    for recipe in ("distill", "cache_teachers"):
        distil(
            f"teachers: {speech_run} in the store, {broken} in this run", recipe=recipe, teachers=[broken], **options
        )
        distil("aggregation", "prob_mean", recipe=recipe, aggregation="prob_mean", **options)
        distil("shard size: 6 in the store, 7 in this run", recipe=recipe, teacher_cache=cache, cache_shard_size=7)
        distil("dtype: 'float16' in the store, 'float32'", recipe=recipe, cache_dtype="float32", **options)


def test_a_cache_of_another_vocabulary(distil: Refuse, cache: Path, copied: Path) -> None:
    change_rows(copied, lambda rows: [row | {"text": row["text"].replace("TEN", "TOO")} for row in rows])
    distil("vocabulary", "'TEN'", "'TOO'", manifest=copied, vocabulary=None, teachers=None, teacher_cache=cache)


def test_an_unfinished_cache(distil: Refuse, cache: Path) -> None:
    (cache / "complete.json").unlink()
    distil("is not finished", "run recipes/cache_teachers.py again", teacher_cache=cache, cache_shard_size=6)


@pytest.mark.parametrize("place", ["middle", "header"])
def test_a_cache_with_one_flipped_byte(distil: Refuse, cache: Path, soft_targets: Path, place: str) -> None:
    shard = sorted(cache.glob("shard-*.safetensors"))[2]
    content = bytearray(shard.read_bytes())
    content[4 if place == "header" else len(content) - 100] ^= 0xFF
    shard.write_bytes(content)
    options = {"teacher_cache": cache, "cache_shard_size": 6}
    distil("shard", "2", str(cache), "run recipes/cache_teachers.py again", **options)


def test_a_damaged_cache_is_mended_by_its_recipe(
    cache: Path, soft_targets: Path, speech: Path, speech_run: Path
) -> None:
    shards = sorted(cache.glob("shard-*.safetensors"))
    content = bytearray(shards[1].read_bytes())
    content[-50] ^= 0xFF
    shards[1].write_bytes(content)
    shards[3].unlink()
    (cache / "index.arrow").write_bytes(b"")
    options = distillation(speech, speech_run, "unused") | {"teacher_cache": cache, "cache_shard_size": 6}
    result = run("cache_teachers", **options)
    assert result.code == 0 and "12 utterances made now" in result.out
    there = {path.name: path.read_bytes() for path in soft_targets.iterdir()}
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == there


def test_a_cache_folder_with_other_files(distil: Refuse, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("important")
    distil("thesis.tex", "--teacher_cache", recipe="cache_teachers", teacher_cache=tmp_path / "mine")


def test_cached_targets_and_an_augmentation_that_changes_the_length(distil: Refuse, cache: Path) -> None:
    options = {"teacher_cache": cache, "cache_shard_size": 6, "augmentation": ["speed"]}
    distil("'speed' changes the length", "use live teachers", **options)
    distil("'speed' changes the length", "use live teachers", recipe="cache_teachers", **options)


def test_a_loss_that_the_cache_cannot_feed(distil: Refuse, cache: Path) -> None:
    options = {"teacher_cache": cache, "cache_shard_size": 6, "gamma": 0.5, "layer_map": {"1": 1}}
    distil("hidden", "--cache_hidden_layers", feature_losses=["hidden"], **options)


# -- output folders ------------------------------------------------------------------------------------------------


def test_a_folder_that_belongs_to_another_run(
    train: Refuse, distil: Refuse, speech: Path, speech_run: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(speech_run, tmp_path / "run"))
    options = {"manifest": speech, "output_dir": folder, **LEARNER}
    train("belongs to another run (generalist)", "seed is 42 there and 7 here", **options, seed=7)
    options["learning_rate"] = "1e-5"
    train("learning_rate is 0.02 there and 1e-05 here", "--overwrite_output_dir true", **options)
    distil('recipe is "train" there and "distill" here', output_dir=folder)


def test_a_folder_with_other_files(train: Refuse, speech: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("important")
    for overwrite in (False, True):
        parts = ["holds files and is no run folder (thesis.tex)", "choose another --output_dir"]
        train(*parts, manifest=speech, output_dir=tmp_path / "mine", overwrite_output_dir=overwrite)


def test_a_file_where_the_folder_should_be(train: Refuse, speech: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    train("is a file", manifest=speech, output_dir=tmp_path / "file")
    train("file", manifest=speech, output_dir=tmp_path / "file" / "below")


def test_an_empty_folder_stays_an_empty_folder(train: Refuse, copied: Path, tmp_path: Path) -> None:
    """Whether a run is refused before the trainer is built or in preflight, no folder is left that was not there."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "words.txt").write_text("ONE\nTWO\nSIX\n", encoding="utf-8")
    for folder in (tmp_path / "empty", tmp_path / "deep" / "er" / "run"):
        train("preflight", "'TEN'", manifest=copied, vocabulary=tmp_path / "words.txt", output_dir=folder)
    (copied.parent / "wav" / "anna-SIX-train1.wav").unlink()
    for folder in (tmp_path / "empty", tmp_path / "deep" / "er" / "run"):
        train("anna-SIX-train1.wav", manifest=copied, output_dir=folder)


# -- scoring and comparing -----------------------------------------------------------------------------------------


@pytest.fixture
def score(refuse: Refuse, speech_run: Path) -> Refuse:
    """A scoring of the tiny run that must be refused."""

    def score(*parts: str, **options: Any) -> str:
        return refuse("score", *parts, **{"run": speech_run, **options})

    return score


def test_scoring_what_is_no_run(score: Refuse, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    score(f"there is no folder {tmp_path}/nowhere", run=tmp_path / "nowhere")
    score("has no resolved_config.yaml", run=tmp_path / "empty")
    score("no run to score", run=None)


def test_scoring_a_run_without_results_or_weights(score: Refuse, broken: Path) -> None:
    results = (broken / "results.json").read_bytes()
    (broken / "results.json").unlink()
    score("has no results.json", run=broken)
    (broken / "results.json").write_bytes(results[: len(results) // 2])
    score("is not valid JSON", run=broken)
    (broken / "results.json").write_bytes(results)
    (broken / "model.safetensors").unlink()
    score("has a config.json and no weights", run=broken)


def test_scoring_an_unknown_split_decoder_or_protocol(score: Refuse) -> None:
    score("there is no split 'tset'", "one of train, dev, test", split="tset")
    score("decoder is 'beem'", "greedy, beam, attention", decoder="beem")
    score("unknown scoring protocol 'letters'", "words", protocol="letters")
    score("no attention decoder", "--decoder greedy or beam", decoder="attention")


def write_arpa(path: Path, word: str) -> None:
    """A bigram over one word."""
    unigrams = f"-0.5\t<unk>\n-99\t<s>\t-0.1\n-0.5\t</s>\n-0.5\t{word}\t-0.1\n"
    counts = "ngram 1=4\nngram 2=1\n"
    bigrams = f"-0.3\t<s> {word}\n"
    path.write_text(f"\\data\\\n{counts}\n\\1-grams:\n{unigrams}\n\\2-grams:\n{bigrams}\n\\end\\\n")


def test_language_models_that_cannot_be_used(score: Refuse, tmp_path: Path) -> None:
    score("language model", f"{tmp_path}/nowhere.arpa' does not exist", decoder="beam", lm=tmp_path / "nowhere.arpa")
    (tmp_path / "broken.arpa").write_text("\\data\\\nngram 1=2\n")
    score("broken.arpa' cannot be read", decoder="beam", lm=tmp_path / "broken.arpa")
    write_arpa(tmp_path / "other.arpa", "HELLO")
    score("0 of 4 labels are words of the language model", "other.arpa", decoder="beam", lm=tmp_path / "other.arpa")
    write_arpa(tmp_path / "lower.arpa", "one")
    score("change the case", decoder="beam", lm=tmp_path / "lower.arpa")
    score("lm is given but decoder 'greedy'", lm=tmp_path / "other.arpa")
    score("lm_weight is -1.0", decoder="beam", lm_weight=-1)


def test_scoring_another_manifest_that_cannot_be_used(score: Refuse, copied: Path, features: Path) -> None:
    score("does not exist", manifest=copied.parent / "nowhere.csv")
    score("the rows have features, but the processor takes audio", manifest=features)
    (copied.parent / "wav" / "anna-ONE-test0.wav").write_bytes(b"")
    score("0 bytes", manifest=copied)


def test_scoring_where_the_media_have_gone(score: Refuse, broken: Path) -> None:
    config = broken / "resolved_config.yaml"
    lines = config.read_text().splitlines()
    config.write_text("\n".join("manifest: /nowhere/m.csv" if line.startswith("manifest:") else line for line in lines))
    score("the manifest /nowhere/m.csv does not exist", run=broken)


def test_comparing_runs_that_cannot_be_compared(
    refuse: Refuse, speech_run: Path, feature_run: Path, broken: Path, tmp_path: Path
) -> None:
    refuse("compare", "scored with corpus tones", "features", words=(speech_run, feature_run))
    (broken / "results.json").unlink()
    message = refuse("compare", "2 problems", "has no results.json", words=(broken, tmp_path / "nowhere"))
    assert f"there is no folder {tmp_path}/nowhere" in message
    refuse("compare", "has no results.json", words=(broken, "--overview"))
    refuse("compare", "no score for split tset", words=(speech_run, "--split", "tset"))
    refuse("compare", "no score of split tset", words=(speech_run, "--split", "tset", "--overview"))
    refuse("compare", "decoder beam", "recipes/score.py --run", words=(speech_run, "--decoder", "beam"))
    refuse("compare", "no run was scored with decoder 'beam'", words=(speech_run, "--main_decoder", "beam"))
