"""Folding runs over seeds, against numbers computed here."""

from __future__ import annotations

import copy
from statistics import mean, stdev

import pytest

from kd_asr_slr.errors import UserError
from kd_asr_slr.reporting.overview import overview_table
from kd_asr_slr.reporting.seeds import seed_table


def with_errors(score, extra):
    """The score with so many more deletions, of which it is the only speaker's too."""
    changed = copy.deepcopy(score)
    changed["deletions"] += extra
    tokens = changed["reference_tokens"]
    changed["wer"] = sum(changed[kind] for kind in ("substitutions", "deletions", "insertions")) / tokens
    return changed


def test_mean_and_spread_are_those_of_the_files(make_run, score):
    scores = [with_errors(score, extra) for extra in (0, 55, 110)]
    runs = [
        make_run(f"student-seed{seed}", scores=[entry], name=f"student-seed{seed}", seed=seed)
        for seed, entry in enumerate(scores, 1)
    ]
    table = seed_table([run.path for run in runs], split="dev")
    rates = [100 * entry["wer"] for entry in scores]
    line = table.splitlines()[-1]
    assert line.startswith("| student ")
    assert f"{mean(rates):.2f}" in line and f"{stdev(rates):.2f}" in line
    assert " ".join(f"{rate:.2f}" for rate in rates) in line


def test_one_seed_twice_and_other_corpora_are_refused(make_run):
    one, two = make_run("a-seed1", name="a-seed1"), make_run("b", name="a-seed2", corpus="other")
    with pytest.raises(UserError) as caught:
        seed_table([one, two], split="dev")
    assert "they have different corpora: other, phoenix" in str(caught.value)
    assert "a (greedy) has the seeds [7, 7]; expected each once" in str(caught.value)


def test_the_overview_lists_any_corpora_and_names_every_run_without_a_score(make_run):
    one, two = make_run("speech", name="speech"), make_run("sign", name="sign", corpus="other")
    assert [line.split("|")[1].strip() for line in overview_table([one, two], split="dev").splitlines()[2:]] == [
        "phoenix",
        "other",
    ]
    with pytest.raises(UserError, match="speech has no score of split test(.|\n)*sign has no score of split test"):
        overview_table([one, two], split="test")
