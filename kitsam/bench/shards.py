"""`kitsam bench shards`: samples a second from shards, by three readers, in one run on the same files.

`read()` reads the tars from end to end into one buffer and decodes nothing: the upper bound. The stock reader is
webdataset's pipeline, decoded and batched, through its WebLoader, with the number of workers that is fastest. The third
is the reader of `kitsam train`, alone and with a decoder's questions drawn for each batch, which is what training gets.
The files are read once before, so that all find them in the page cache. A second table shows the cost of opening sets
of more and more shards.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image
from rich.table import Table

from kitsam.bench.config import BenchShardsConfig
from kitsam.bench.measure import MIB, Measurement, in_fresh_process, write_figures
from kitsam.bench.shard_set import make_set
from kitsam.ct.labels import Target
from kitsam.ct.strata import STRATA, strata_for
from kitsam.shards.batches import batches
from kitsam.shards.kidneys import KidneyBoxes
from kitsam.shards.manifest import read_manifest
from kitsam.shards.reader import Samples, ShardSet
from kitsam.system.console import say
from kitsam.system.errors import OptionError

if TYPE_CHECKING:
    from webdataset import WebLoader

T = TypeVar("T")

READ_BLOCK = 16 * MIB
STOCK_WORKERS = (0, 1, 2, 4)
# Sets that show the cost of opening: cells and pixels a side, samples a shard.
SMALL_GRID, SMALL_MASK, SMALL_SAMPLES = 4, 64, 8
SHARD_COUNTS = (10, 100, 1000)
OPENING_BATCH = 64  # slices


def run(config: BenchShardsConfig) -> int:
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=config.work, prefix="kitsam-bench-")))
        if config.shards is None:
            folder = work / "set"
            make_set(folder, config.samples, config.grid, config.samples_per_shard)
        else:
            folder = config.shards
        throughput = _measure_throughput(folder, config)
        opening = _measure_opening(work)
    write_figures(config.json, "shards", {"throughput": throughput, "opening": opening})
    return 0


def _measure_throughput(folder: Path, config: BenchShardsConfig) -> dict[str, Any]:
    shards = read_manifest(folder).train
    samples = sum(entry.samples for entry in shards)
    sample_bytes = sum(entry.bytes for entry in shards) / samples
    if samples < config.batch_size:
        raise OptionError(f"--batch_size: {folder} has fewer training samples than {config.batch_size}")
    in_fresh_process(read_plainly, folder, 0.0)
    results = {"read()": in_fresh_process(read_plainly, folder, config.seconds)}
    for workers in STOCK_WORKERS:
        results[f"WebLoader, {workers} workers"] = in_fresh_process(
            read_stock, folder, config.batch_size, workers, config.seconds
        )
    results["kitsam"] = in_fresh_process(read_kitsam, folder, config.batch_size, config.seconds)
    questions = f"kitsam, {config.target} questions"
    results[questions] = in_fresh_process(read_questions, folder, config.batch_size, config.seconds, config.target)
    bound, ours, asked = (results[name].value for name in ("read()", "kitsam", questions))
    best = max(result.value for name, result in results.items() if name.startswith("WebLoader"))
    table = Table(
        "reader",
        "samples/s",
        "GiB/s",
        "of read()",
        "peak MiB",
        title=f"Batches of {config.batch_size}, {sample_bytes / MIB:.2f} MiB a sample",
    )
    for name, result in results.items():
        rate = result.value
        table.add_row(
            name, f"{rate:.0f}", f"{rate * sample_bytes / 2**30:.2f}", f"{rate / bound:.0%}", f"{result.peak / MIB:.0f}"
        )
    say(table)
    say(
        f"kitsam: {ours / best:.1f} times WebLoader's best, {ours / bound:.0%} of read(); with questions "
        f"{asked / ours:.0%} of that; one batch is {config.batch_size * sample_bytes / MIB:.0f} MiB"
    )
    return {
        "batch_size": config.batch_size,
        "sample_bytes": round(sample_bytes),
        "readers": {name: _figures(result) for name, result in results.items()},
        "ratio_to_stock": ours / best,
        "share_of_read": ours / bound,
        "target": config.target,
        "share_with_questions": asked / ours,
    }


def _figures(result: Measurement) -> dict[str, float]:
    return {"samples_per_second": round(result.value, 1), "peak_bytes": result.peak}


def _measure_opening(work: Path) -> list[dict[str, float]]:
    table = Table(
        "shards",
        "kitsam: first batch",
        "peak MiB",
        "WebLoader: first batch",
        "peak MiB",
        title="Opening a set of small samples",
    )
    rows = []
    for count in SHARD_COUNTS:
        folder = work / f"shards-{count}"
        make_set(folder, count * SMALL_SAMPLES, SMALL_GRID, SMALL_SAMPLES, SMALL_MASK)
        ours, stock = in_fresh_process(first_batch, folder), in_fresh_process(first_stock_batch, folder)
        table.add_row(
            str(count),
            f"{ours.value:.3f} s",
            f"{ours.peak / MIB:.0f}",
            f"{stock.value:.3f} s",
            f"{stock.peak / MIB:.0f}",
        )
        rows.append(
            {
                "shards": count,
                "seconds": ours.value,
                "peak_bytes": ours.peak,
                "stock_seconds": stock.value,
                "stock_peak_bytes": stock.peak,
            }
        )
        shutil.rmtree(folder)
    say(table)
    return rows


def read_plainly(folder: Path, seconds: float) -> float:
    """Samples a second of reading the tars from end to end, at least once."""
    manifest = read_manifest(folder)
    buffer = bytearray(READ_BLOCK)

    def passes() -> Iterator[int]:
        while True:
            for entry in manifest.train:
                with open(folder / entry.name, "rb", buffering=0) as file:
                    while file.readinto(buffer):
                        pass
                yield entry.samples

    return _rate(passes(), seconds, sum(entry.samples for entry in manifest.train))


def read_stock(folder: Path, batch_size: int, workers: int, seconds: float) -> float:
    """Samples a second of webdataset's own pipeline, as its README builds one."""
    loader = stock_loader(folder, batch_size, workers, resampled=True)
    return _rate((len(keys) for keys, *_ in loader), seconds, 2 * batch_size * max(workers, 1))


def stock_loader(folder: Path, batch_size: int, workers: int, resampled: bool) -> "WebLoader":
    """Batches of keys, embeddings, masks and records; `resampled`: shards at random without end."""
    import webdataset as wds

    urls = [str(folder / entry.name) for entry in read_manifest(folder).train]
    pipeline = wds.WebDataset(urls, resampled=resampled, shardshuffle=False, empty_check=False)
    pipeline = pipeline.decode(_decode_member).to_tuple("__key__", "emb.npy", "mask.png", "json").batched(batch_size)
    # Its workers are forked, which is the default but not in a process that was spawned.
    return wds.WebLoader(
        pipeline,
        batch_size=None,
        num_workers=workers,
        multiprocessing_context="fork" if workers and hasattr(os, "fork") else None,
    )


def _decode_member(key: str, data: bytes) -> Any:
    """By the name's ending: webdataset's automatic decoders would unpickle."""
    if key.endswith(".npy"):
        return np.load(BytesIO(data), allow_pickle=False)
    return np.asarray(Image.open(BytesIO(data))) if key.endswith(".png") else json.loads(data)


def read_kitsam(folder: Path, batch_size: int, seconds: float) -> float:
    """Samples a second of the reader of `kitsam train`, with which nothing is done."""
    read = _batches(ShardSet(folder), batch_size, STRATA, lambda step, samples: samples)
    return _rate((len(samples.records) for samples in read), seconds, 4 * batch_size)


def read_questions(folder: Path, batch_size: int, seconds: float, target: Target) -> float:
    """Samples a second of the batches that `kitsam train` gets, from slices of the strata that the target trains on."""
    # segment-anything comes with them: other readers' processes do without.
    from kitsam.training.config import TrainConfig
    from kitsam.training.questions import questioner

    shards, training = ShardSet(folder), TrainConfig(target, str(folder), folder)
    prompt = training.prompt
    ask = questioner(KidneyBoxes(shards, prompt.merge, prompt.smallest), target, prompt, training.seed, training.shift)
    read = _batches(shards, batch_size, strata_for(target), ask)
    return _rate((len(questions.stored) for questions in read), seconds, 4 * batch_size)


def _batches(
    shards: ShardSet, batch_size: int, strata: Sequence[str], prepare: Callable[[int, Samples], T]
) -> Iterator[T]:
    return batches(shards, shards.order("natural", batch_size, 0, strata), range(10**9), prepare)


def _rate(counts: Iterator[int], seconds: float, warm_up: int) -> float:
    """Samples a second, counted over `seconds` after the first `warm_up` samples."""
    while warm_up > 0:
        warm_up -= next(counts)
    start, total = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds:
        total += next(counts)
    return total / elapsed if total else 0.0


def first_batch(folder: Path) -> float:
    """Seconds from the set's folder to its first batch."""
    start = time.perf_counter()
    next(_batches(ShardSet(folder), OPENING_BATCH, STRATA, lambda step, samples: samples))
    return time.perf_counter() - start


def first_stock_batch(folder: Path) -> float:
    """The same by the stock reader."""
    import webdataset  # noqa: F401  so that its import is not counted

    start = time.perf_counter()
    next(iter(stock_loader(folder, OPENING_BATCH, 0, resampled=False)))
    return time.perf_counter() - start
