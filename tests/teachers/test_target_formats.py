"""The forms of soft targets on disk: what they give back, and the same bytes and checks for each of them."""

from __future__ import annotations

import multiprocessing
import os
import signal as signals

import pytest
import torch
from fake_teachers import COUNT, batch_of, ids_of, loader, manifest_for, mean_pool

from kd_asr_slr.losses.kl import row_kl
from kd_asr_slr.losses.sparse_kl import sparse_row_kl
from kd_asr_slr.teachers.cache import write_cache
from kd_asr_slr.teachers.cached import CachedTeachers
from kd_asr_slr.teachers.formats import FORMATS, format_of
from kd_asr_slr.teachers.store import StoreReader, StoreWriter


def write(folder, name, ranks=1):
    pool = mean_pool()
    for rank in range(ranks):
        writer = StoreWriter(
            folder, manifest_for(pool, target_format=format_of({"name": name}).describe()), ids_of(COUNT)
        )
        write_cache(pool, loader(), writer, rank, ranks)
    writer.finish()
    return StoreReader(folder)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def die_at_the_third_shard(folder, name):
    replace_file = os.replace

    def replace_or_die(source, target):
        if target.name == "shard-00002-of-00004.safetensors":
            os.kill(os.getpid(), signals.SIGKILL)
        replace_file(source, target)

    os.replace = replace_or_die
    write(folder, name)


@pytest.mark.parametrize("name", FORMATS)
def test_killed_resumed_and_by_two_processes_gives_the_same_bytes(tmp_path, name):
    write(tmp_path / "once", name)
    write(tmp_path / "two", name, ranks=2)
    process = multiprocessing.get_context("fork").Process(
        target=die_at_the_third_shard, args=(tmp_path / "killed", name)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signals.SIGKILL
    write(tmp_path / "killed", name)
    assert contents(tmp_path / "once") == contents(tmp_path / "two") == contents(tmp_path / "killed")


@pytest.mark.parametrize("name", FORMATS)
def test_a_flipped_byte_is_found_and_only_that_shard_is_missing(tmp_path, name):
    write(tmp_path, name)
    path = tmp_path / "shard-00001-of-00004.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert StoreReader(tmp_path).verify() == [1]


def test_quantised_store_is_near_the_live_teachers(tmp_path):
    live = mean_pool().signal(batch_of(range(COUNT))).log_probs
    read = CachedTeachers(write(tmp_path, "quantised")).signal(batch_of(range(COUNT))).log_probs
    torch.testing.assert_close(read, live, atol=4e-3, rtol=1e-3)  # five classes: all of them exact


@pytest.mark.parametrize("bits", [8, 4])
def test_quantised_is_within_half_a_step(bits):
    log_probs = (3 * torch.randn(20, 101, generator=torch.Generator().manual_seed(0))).log_softmax(-1)
    form = format_of({"name": "quantised", "bits": bits, "exact": 4})
    found = form.decode(form.encode(log_probs, "one"), 101)
    step = (log_probs.amax(1) - log_probs.amin(1)) / (2**bits - 1)
    assert ((found - log_probs).abs().amax(1) < 0.55 * step + 0.02).all()


def topk_rows(size, top_k, certain=1e-4):
    log_probs = (3 * torch.randn(12, size, generator=torch.Generator().manual_seed(0))).log_softmax(-1)
    log_probs[3] = torch.tensor([14.0] + [0.0] * (size - 1)).log_softmax(-1)
    form = format_of({"name": "topk", "top_k": top_k, "certain": certain})
    return log_probs, form.decode(form.encode(log_probs, "one"), size)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("drop", [None, 0])
def test_all_classes_sparse_is_the_dense_divergence(temperature, drop):
    log_probs, targets = topk_rows(30, 30, certain=0)
    student = torch.randn(15, 30, generator=torch.Generator().manual_seed(1)).requires_grad_()
    places = torch.arange(12) + 2
    one = sparse_row_kl(student, places, targets, temperature, drop)
    other = row_kl(student[places], log_probs, temperature, drop)
    torch.testing.assert_close(one, other, atol=2e-3, rtol=1e-3)  # values are kept in float16
    gradients = [torch.autograd.grad(value.sum(), student)[0] for value in (one, other)]
    torch.testing.assert_close(*gradients, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("drop", [None, 0])
def test_gradient_of_the_sparse_divergence(drop):
    _, targets = topk_rows(30, 5)
    student = torch.randn(15, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(lambda logits: sparse_row_kl(logits, torch.arange(12), targets, 2.0, drop), student)


def test_a_certain_frame_keeps_one_class_and_its_tail_at_every_temperature():
    log_probs, targets = topk_rows(30, 5)
    assert (targets.log_probs > -torch.inf).sum(1).tolist() == [5, 5, 5, 1] + [5] * 8
    for temperature in (1.0, 2.0, 3.5, 4.0):
        dense = (log_probs / temperature).softmax(1)
        kept = torch.zeros(12, 30).scatter(1, targets.ids, 1.0) > 0
        tail = (dense * ~kept).sum(1)
        torch.testing.assert_close(targets.at(temperature)[:, -1].exp(), tail, atol=2e-3, rtol=5e-3)


def test_draws_are_unbiased():
    log_probs = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log().expand(400, 4)
    form = format_of({"name": "sampled", "samples": 100})
    mean = form.decode(form.encode(log_probs, "one"), 4).dense().exp().mean(0)
    torch.testing.assert_close(mean, torch.tensor([0.5, 0.3, 0.15, 0.05]), atol=0.01, rtol=0)  # 40,000 draws: 4 sigma
