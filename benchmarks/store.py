"""The store of soft targets: its bytes against what the student's gradient loses, reading it, opening a large one."""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from common import Suite
from torch.utils.data import DataLoader
from trained_teachers import BLANK, Class, make_class

from kd_asr_slr.files import canonical_json, sha256_of
from kd_asr_slr.losses.base import LossContext
from kd_asr_slr.losses.ctc_kd import CTCDistillation
from kd_asr_slr.losses.settings import LossSettings
from kd_asr_slr.models.bilstm.configuration_bilstm import BiLstmConfig
from kd_asr_slr.models.bilstm.modeling_bilstm import BiLstmForCTC
from kd_asr_slr.outputs import CTCOutput, TeacherSignal
from kd_asr_slr.teachers.cached import CachedTeachers
from kd_asr_slr.teachers.formats import format_of
from kd_asr_slr.teachers.index import ShardRecord, index_bytes
from kd_asr_slr.teachers.manifest import StoreManifest, fingerprint_of_texts
from kd_asr_slr.teachers.shards import StoredTarget, shard_path
from kd_asr_slr.teachers.store import StoreReader, StoreWriter

LARGE, TEACHERS, SMALL = 5000, 13, 1229
TEMPERATURES = (1.0, 2.0, 4.0)
MILLION, SHARD = 1_000_000, 256
BATCH, READS = 24, 16
FORMS = {
    "topk": {"name": "topk"},
    "quantised": {"name": "quantised"},
    "quantised, 4 bits": {"name": "quantised", "bits": 4},
    "sampled at T 1": {"name": "sampled"},
    "sampled at T 2": {"name": "sampled", "samples": 255, "temperature": 2.0},
    "dense float16": {"name": "dense"},
}
LOSS = CTCDistillation(LossSettings(), LossContext(BLANK))


def manifest_of(ids: list[str], vocabulary: int, form: dict) -> StoreManifest:
    """Of a store that stands for teachers without folders."""
    return StoreManifest(
        corpus="made up",
        count=len(ids),
        ids=fingerprint_of_texts(ids),
        transcripts=None,
        teachers=[],
        generalist=None,
        aggregation={"name": "logprob_mean"},
        vocabulary="",
        tokens=[f"w{number}" for number in range(vocabulary)],
        blank_id=BLANK,
        features="",
        frame_seconds=0.04,
        contents=["log_probs"],
        shard_size=SHARD,
        format=form,
    )


def write_store(folder: Path, targets: list[torch.Tensor], form: dict) -> StoreReader:
    """A store of combined targets, [T, V] each, named by their position."""
    ids = [str(number) for number in range(len(targets))]
    writer = StoreWriter(folder, manifest_of(ids, targets[0].shape[1], format_of(form).describe()), ids)
    for shard in writer.missing_shards():
        said = {name: targets[int(name)] for name in writer.ids_of(shard)}  # [T, V] each
        made = {name: StoredTarget(len(item), 1.0, {"log_probs": item}) for name, item in said.items()}
        writer.write_shard(shard, {name: writer.encode(name, target) for name, target in made.items()})
    writer.finish()
    return StoreReader(folder)


def payload(reader: StoreReader) -> int:
    """Bytes that grow with the corpus: everything but the manifest, whose tokens are there once."""
    return sum(path.stat().st_size for path in reader.folder.iterdir() if path.name != "manifest.json")


def signal_of(teachers: CachedTeachers, ids: list[str]) -> TeacherSignal:
    """What a store says of a batch."""
    return teachers.signal({"ids": ids, "attention_mask": torch.zeros(1)})


def gradient(logits: torch.Tensor, signal: TeacherSignal, temperature: float) -> torch.Tensor:
    """Of CTC-KD with respect to the logits [B, T, V]."""
    leaf = logits.clone().requires_grad_()
    value = LOSS(CTCOutput(logits=leaf, logit_lengths=signal.lengths), signal, {}, temperature).sum()
    return torch.autograd.grad(value, leaf)[0]


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    """In float64: in float32 it is exact to 1e-4 only."""
    return torch.nn.functional.cosine_similarity(one.double().flatten(), other.double().flatten(), 0).item()


def fidelity(reader: StoreReader, made: Class) -> dict[float, float]:
    """Temperature -> the lowest cosine over students of their gradients on what is stored and on what was said."""
    lengths, weights = torch.tensor([len(item) for item in made.targets]), torch.ones(len(made.targets))
    said = TeacherSignal(padded(made.targets), lengths, "", 0.04, weights)
    stored = signal_of(CachedTeachers(reader), [str(number) for number in range(len(lengths))])
    found = {}
    for temperature in TEMPERATURES:
        found[temperature] = min(
            cosine(gradient(logits, stored, temperature), gradient(logits, said, temperature))
            for logits in map(padded, made.students.values())
        )
    return found


def padded(rows: list[torch.Tensor]) -> torch.Tensor:
    """[B, T, V]."""
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def bytes_and_gradients(suite: Suite, folder: Path, vocabulary: int, teachers: int, names: tuple[str, ...]) -> None:
    """A store of each form: how much smaller it is, and what the gradient loses."""
    made = make_class(vocabulary, teachers, suite.quick)
    where = f"V {vocabulary}, K {teachers}"
    short = "quick: teachers trained for 160 steps, not 400" if suite.quick else ""
    suite.show(f"{where}: words that a teacher hears right", made.words_heard, note="trained here, on labels")
    frames = sum(map(len, made.targets))
    for name in names:
        reader = write_store(folder / f"{vocabulary}-{name}", made.targets, format_of(FORMS[name]).describe())
        taken, dense = payload(reader), 4 * teachers * vocabulary * frames
        kept = fidelity(reader, made)
        line, note = f"{where}, {name}", f"{taken / frames:.0f} bytes a frame"
        if name == "topk":
            suite.at_least(f"{line}: times smaller than the teachers' float32", dense / taken, 500, note=note)
            suite.at_least(f"{line}: cosine of the gradients at T 1", kept[1.0], 0.999, note=short)
            suite.at_least(f"{line}: cosine at T 2", kept[2.0], 0.99, note=short)
            suite.show(f"{line}: cosine at T 4", kept[4.0], note="cache_teachers warns of it; use quantised there")
            lost = signal_of(CachedTeachers(reader), [str(number) for number in range(len(made.targets))]).sparse
            valid = torch.arange(lost.ids.shape[1])[None] < torch.tensor([[len(item)] for item in made.targets])
            for temperature in TEMPERATURES:
                mass = lost.at(temperature)[valid][:, -1].exp().mean().item()
                suite.show(f"{line}: mass that is not written down at T {temperature:g}", mass)
        elif name == "quantised" and vocabulary == SMALL:
            suite.at_most(f"{line}: bytes over float32", taken / dense, 0.5, note=note)
            for temperature in TEMPERATURES:
                suite.at_least(f"{line}: cosine at T {temperature:g}", kept[temperature], 0.9999)
        else:
            suite.show(f"{line}: times smaller than float32", dense / taken, note=note)
            cosines = ", ".join(f"T {temperature:g} {value:.5f}" for temperature, value in kept.items())
            suite.show(f"{line}: lowest cosine", min(kept.values()), note=cosines)


class Batches(torch.utils.data.Dataset):
    """Batches of a store, read by whoever asks, in an order of its own."""

    def __init__(self, reader: StoreReader, count: int) -> None:
        self.teachers, self.count = CachedTeachers(reader), count

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, number: int) -> TeacherSignal:
        draws = torch.Generator().manual_seed(number)
        return signal_of(
            self.teachers, [str(index) for index in torch.randint(self.count, (BATCH,), generator=draws).tolist()]
        )


def reading(suite: Suite, folder: Path) -> None:
    """Two workers read targets at random, against a training step of the student they are for."""
    stores = (("quantised", SMALL), ("topk", LARGE))
    for name, vocabulary in stores[suite.quick :]:
        reader = StoreReader(folder / f"{vocabulary}-{name}")
        workers = iter(DataLoader(Batches(reader, len(reader)), batch_size=None, num_workers=2))
        frames = int(next(workers).lengths.max())
        sides = {"training step": training_step(vocabulary, frames), f"{READS} reads": reads(workers)}
        timing = suite.time(sides, repeats=7, warm_up=1)
        ratio = READS * timing.ratio("training step", f"{READS} reads")
        line = f"V {vocabulary}, {name}: batches that 2 workers read during a training step"
        suite.at_least(line, ratio, 1, timing, f"{BATCH} utterances; a BiLSTM of 4 x 256 on the same cores")


def reads(workers: Iterator[TeacherSignal]) -> Callable[[], list]:
    """So many batches from the workers: more than wait in their queues."""
    return lambda: list(itertools.islice(workers, READS))


def training_step(vocabulary: int, frames: int) -> Callable[[], None]:
    """Forward and backward of a student of the usual size, labels only."""
    shape = {"input_size": 80, "hidden_size": 256, "num_layers": 4, "stride": 2, "dropout": 0.0}
    model = BiLstmForCTC(BiLstmConfig(**shape, vocab_size=vocabulary))
    features, mask = torch.randn(BATCH, 2 * frames, 80), torch.ones(BATCH, 2 * frames, dtype=torch.long)
    labels = torch.randint(1, vocabulary, (BATCH, 8))

    def step() -> None:
        model(features, attention_mask=mask, labels=labels).loss.backward()

    return step


def loss_on_sparse_targets(suite: Suite, folder: Path) -> None:
    """The loss against the same targets dense, which is how every other form is used."""
    made = make_class(LARGE, TEACHERS, suite.quick)
    stored = signal_of(CachedTeachers(folder / f"{LARGE}-topk"), [str(number) for number in range(len(made.targets))])
    dense = TeacherSignal(padded(made.targets), stored.lengths, "", 0.04, stored.weight)
    logits = padded(made.students[0])
    sides = {"dense": lambda: gradient(logits, dense, 2.0), "topk": lambda: gradient(logits, stored, 2.0)}
    timing = suite.time(sides, best_of=3)
    suite.show("the loss and its gradient on topk over on dense targets", timing.ratio("topk", "dense"), timing)


def a_million(suite: Suite, folder: Path) -> None:
    """A finished store of a million utterances, whose shards are holes in the disk."""
    ids = [f"speaker-{number * 7919 % MILLION:07d}" for number in range(MILLION)]
    manifest = manifest_of(ids, LARGE, FORMS["topk"])
    folder.mkdir()
    records = []
    for shard in range(manifest.shards):
        part = ids[shard * SHARD : (shard + 1) * SHARD]
        count, size = len(part), 25_000 * len(part)
        records.append(
            ShardRecord("", "", size, part, [60] * count, [1.0] * count, [[number] for number in range(count)])
        )
        with open(shard_path(folder, shard, manifest.shards), "wb") as file:
            file.truncate(size)
    index, written = index_bytes(records), manifest.to_json()
    seals = {"manifest.json": sha256_of(written), "index.arrow": sha256_of(index)}
    for name, content in (("index.arrow", index), ("manifest.json", written), ("complete.json", canonical_json(seals))):
        (folder / name).write_bytes(content)
    opened = min(seconds(lambda: StoreReader(folder)) for _ in range(3))
    suite.at_most("seconds until a store of a million utterances is open, checksums included", opened, 1)
    reader, wanted = StoreReader(folder), ids[:: MILLION // 2000]
    suite.agree_exactly(
        "a million utterances: places", [reader.index.find(name).shard for name in wanted[:3]], [0, 1, 3]
    )
    each = min(seconds(lambda: [reader.index.find(name) for name in wanted]) for _ in range(3)) / len(wanted)
    suite.show("microseconds to find one of a million by its id", 1e6 * each)


def seconds(call: Callable[[], object]) -> float:
    """Of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> int:
    """The exit status: 1 where two sides disagree."""
    suite = Suite("store", __doc__.splitlines()[0])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        forms = ("topk", "quantised") if suite.quick else tuple(FORMS)
        bytes_and_gradients(suite, folder, LARGE, TEACHERS, forms)
        bytes_and_gradients(suite, folder, SMALL, 1, ("quantised", "dense float16"))
        reading(suite, folder)
        loss_on_sparse_targets(suite, folder)
        a_million(suite, folder / "million")
    return suite.finish()


if __name__ == "__main__":
    sys.exit(main())
