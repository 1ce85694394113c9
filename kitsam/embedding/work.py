"""The encoder at work: a thread reads cases ahead of it, another writes shards behind it, so that it need not wait.

A unit is finished or absent: its shards get their names together when it is complete. A batch never crosses a case, so
that the same slices are encoded together whatever the number of processes.
"""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import TracebackType
from typing import final

import torch
from torch import Tensor

from kitsam.ct.case import Case, CaseFiles, read_case, try_case
from kitsam.ct.views import View, draw_view, transform_to_input
from kitsam.embedding.config import EmbedConfig
from kitsam.embedding.plan import SamplePlan, Unit, masks_in_views, unit_contents
from kitsam.sam.encoding import SliceEncoder
from kitsam.shards.index import UnitRecord, write_index
from kitsam.shards.sample import SampleRecord
from kitsam.shards.writer import ShardWriter
from kitsam.system.console import Tick, warn
from kitsam.system.errors import CaseError

BATCHES_BEHIND = 4  # of embeddings that may wait to be written


def embed_units(
    units: list[Unit], files: dict[str, CaseFiles], encode: SliceEncoder, config: EmbedConfig, tick: Tick
) -> float:
    """Write the shards of the units. Returns the share of the time that the encoder worked."""
    clock = _Clock(encode.device)
    cases = _read_ahead([files[name] for unit in units for name in unit.cases])
    for unit in units:
        with _UnitShards(unit, config) as shards:
            for name in unit.cases:
                case = next(cases)
                if isinstance(case, CaseError):
                    warn(f"{name} is left out: {case}")
                    shards.skip(name, str(case))
                else:
                    _encode_case(case, encode, config, shards, clock)
                tick(len(shards.samples[name]), name)
    return clock.share()


def _read_ahead(cases: list[CaseFiles]) -> Iterator[Case | CaseError]:
    """Yield each case while a thread reads the next one."""
    with ThreadPoolExecutor(1) as reader:
        ahead: deque[Future[Case | CaseError]] = deque()
        for files in cases:
            ahead.append(reader.submit(try_case, read_case, files))
            if len(ahead) > 1:
                yield ahead.popleft().result()
        if ahead:
            yield ahead.popleft().result()


def _encode_case(case: Case, encode: SliceEncoder, config: EmbedConfig, shards: "_UnitShards", clock: "_Clock") -> None:
    image = torch.from_numpy(case.image).to(encode.device)
    samples = shards.samples[case.name]
    for first in range(0, len(samples), config.batch_size):
        batch = samples[first : first + config.batch_size]
        views = [draw_view(config.views, config.seed, case.name, sample.slice, sample.view) for sample in batch]
        with clock.running():
            embeddings = encode(image, [sample.slice for sample in batch], views)
        shards.add(case, batch, views, embeddings, encode.encoder.input_size)


@final
class _UnitShards(AbstractContextManager):
    """A unit's shards, written by a thread of their own."""

    def __init__(self, unit: Unit, config: EmbedConfig) -> None:
        self.unit, self.config = unit, config
        self.shard_of = {(case, sample): name for name, shard in unit.shards.items() for case, sample in shard}
        self.samples: dict[str, list[SamplePlan]] = {name: [] for name in unit.cases}
        for case, sample in sorted(self.shard_of, key=lambda member: member[1]):
            self.samples[case].append(sample)
        self.skipped: dict[str, str] = {}
        self.writers: dict[str, ShardWriter] = {}
        self.files = ExitStack()
        self.thread = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))
        self.waiting: deque[Future] = deque()

    def __enter__(self) -> "_UnitShards":
        return self

    def skip(self, case: str, reason: str) -> None:
        self.skipped[case] = reason

    def add(self, case: Case, batch: list[SamplePlan], views: list[View], embeddings: Tensor, side: int) -> None:
        """`embeddings`: (B, 256, G, G) float16 on the encoder's device, perhaps not computed yet."""
        self.waiting.append(self.thread.submit(self._write, case, batch, views, embeddings, side))
        while len(self.waiting) > BATCHES_BEHIND:
            self.waiting.popleft().result()

    def _write(self, case: Case, batch: list[SamplePlan], views: list[View], embeddings: Tensor, side: int) -> None:
        places = [(sample.slice, sample.view) for sample in batch]
        masks = masks_in_views(case.label, places, self.config.views, self.config.seed, case.name)
        for sample, view, embedding, mask in zip(batch, views, embeddings.cpu().numpy(), masks):
            self._writer(self.shard_of[case.name, sample]).add(embedding, mask, _record(case, sample, view, side))

    def _writer(self, shard: str) -> ShardWriter:
        if shard not in self.writers:
            writer = ShardWriter(self.config.out / shard, self.config.storage)
            self.writers[shard] = self.files.enter_context(writer)
        return self.writers[shard]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give the shards their names, then write their sidecars; after an error leave no trace of them."""
        with self.files, self.thread:
            if error is not None:
                self.thread.shutdown(cancel_futures=True)
                raise error
            for future in self.waiting:
                future.result()
        record = UnitRecord(unit_contents(self.unit), self.skipped, tuple(sorted(self.writers)))
        for name, writer in self.writers.items():
            write_index(self.config.out / name, writer.index(record))


def _record(case: Case, sample: SamplePlan, view: View, side: int) -> SampleRecord:
    shape = case.image.shape[1:]
    transform = transform_to_input(*shape, side, view).round(6).tolist()
    return SampleRecord(
        case.name,
        sample.slice,
        sample.view,
        sample.stratum,
        sample.pixels,
        native_shape=tuple(shape),
        spacing=tuple(round(mm, 6) for mm in case.spacing),
        transform=tuple(tuple(row) for row in transform),
    )


class _Clock:
    """How much of the time the encoder worked: by events where the device works by itself."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.began, self.seconds = time.perf_counter(), 0.0
        self.events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        if self.cuda:
            first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            first.record()
            yield
            last.record()
            self.events.append((first, last))
        else:
            began = time.perf_counter()
            yield
            self.seconds += time.perf_counter() - began

    def share(self) -> float:
        if self.cuda:
            torch.cuda.synchronize()
        work = self.seconds + sum(first.elapsed_time(last) for first, last in self.events) / 1000
        return work / max(time.perf_counter() - self.began, 1e-9)
