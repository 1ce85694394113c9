"""The encoder at work: a thread reads cases ahead of it, another writes shards behind it, so that it need not wait.

A unit is finished or absent: its shards get their names together when it is complete. A batch never crosses a case, so
that the same slices are encoded together whatever the number of processes.
"""

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import final

import numpy as np
import torch
from torch import Tensor

from kitsam.ct.body import BodyBox
from kitsam.ct.case import Case, CaseFiles, read_case, try_case
from kitsam.ct.config import InputConfig
from kitsam.ct.views import View, draw_view, resize_pixels, transform_to_input
from kitsam.ct.window import to_channels
from kitsam.embedding.config import EmbedConfig
from kitsam.embedding.plan import Plan, SamplePlan, Unit, masks_in_views, unit_seal
from kitsam.sam.encoding import SliceEncoder
from kitsam.shards.boxes import mask_boxes
from kitsam.shards.index import write_index
from kitsam.shards.sample import SampleRecord
from kitsam.shards.units import UnitRecord, write_unit
from kitsam.shards.writer import ShardWriter
from kitsam.system.console import Tick, warn
from kitsam.system.devices import to_host
from kitsam.system.errors import CaseError
from kitsam.system.files import sha256_of
from kitsam.system.pieces import Pieces

BATCHES_BEHIND = 4  # of embeddings that may wait to be written


def embed_units(
    units: list[tuple[int, Unit]],  # with the number of its first case, counted over all processes
    files: dict[str, CaseFiles],
    encode: SliceEncoder,
    config: EmbedConfig,
    plan: Plan,
    tick: Tick,
    pieces: Pieces,
) -> float:
    """Write the shards of the units. Returns the share of the time that the encoder worked."""
    clock = _Clock(encode.device)
    cases = _read_ahead([files[name] for _, unit in units for name in unit.cases], plan)
    for first, unit in units:
        with _UnitShards(unit, config, plan) as shards:
            for number, name in enumerate(unit.cases, first):
                with pieces.piece(number):
                    _embed_case(name, next(cases), encode, config, shards, clock)
                tick(len(shards.samples[name]), name)
    return clock.share()


def _embed_case(
    name: str,
    scan: "_Scan | CaseError",
    encode: SliceEncoder,
    config: EmbedConfig,
    shards: "_UnitShards",
    clock: "_Clock",
) -> None:
    if isinstance(scan, CaseError):
        warn(f"{name} is left out: {scan}")
        shards.skipped[name] = str(scan)
        return
    for doubt in scan.case.doubts:
        warn(doubt)
    shards.scans[name] = scan.sha256
    _encode_case(scan.case, encode, config, shards, clock)


@dataclass(frozen=True)
class _Scan:
    """A case, and the SHA-256 of the file of its scan."""

    case: Case
    sha256: str


def _read_ahead(cases: list[CaseFiles], plan: Plan) -> Iterator[_Scan | CaseError]:
    """Yield each case while a thread reads the next one."""

    def read(files: CaseFiles) -> _Scan:
        case = read_case(files)
        if sha256_of(files.segmentation) != plan.cases[files.name].segmentation:
            raise CaseError(f"{files.segmentation}: has changed since the plan was made")
        return _Scan(case.within(plan.cases[files.name].body), sha256_of(files.imaging))

    with ThreadPoolExecutor(1) as reader:
        ahead: deque[Future[_Scan | CaseError]] = deque()
        for files in cases:
            ahead.append(reader.submit(try_case, read, files))
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

    def __init__(self, unit: Unit, config: EmbedConfig, plan: Plan) -> None:
        self.unit, self.config, self.plan = unit, config, plan
        self.shard_of = {(case, sample): name for name, shard in unit.shards.items() for case, sample in shard}
        self.samples: dict[str, list[SamplePlan]] = {name: [] for name in unit.cases}
        for case, sample in sorted(self.shard_of, key=lambda member: member[1]):
            self.samples[case].append(sample)
        self.skipped: dict[str, str] = {}  # case -> why
        self.scans: dict[str, str] = {}  # case -> SHA-256 of its scan
        self.writers: dict[str, ShardWriter] = {}
        self.files = ExitStack()
        self.thread = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))
        self.waiting: deque[Future] = deque()

    def __enter__(self) -> "_UnitShards":
        return self

    def add(self, case: Case, batch: list[SamplePlan], views: list[View], embeddings: Tensor, side: int) -> None:
        """`embeddings`: (B, 256, G, G) float16 on the encoder's device, perhaps not computed yet."""
        self.waiting.append(self.thread.submit(self._write, case, batch, views, embeddings, side))
        while len(self.waiting) > BATCHES_BEHIND:
            self.waiting.popleft().result()

    def _write(self, case: Case, batch: list[SamplePlan], views: list[View], embeddings: Tensor, side: int) -> None:
        places = [(sample.slice, sample.view) for sample in batch]
        masks = masks_in_views(case.label, places, self.config.views, self.config.seed, case.name)
        for sample, view, embedding, mask in zip(batch, views, to_host(embeddings), masks):
            record = _record(case, sample, view, side, self.plan.cases[case.name].body)
            boxes = mask_boxes(mask, record.pixel_of(mask), **self.plan.settings["boxes"])
            ct = _picture(case, sample, view, mask.shape, self.config) if self.config.keep_ct else None
            self._writer(self.shard_of[case.name, sample]).add(embedding, mask, record, boxes, ct)

    def _writer(self, shard: str) -> ShardWriter:
        if shard not in self.writers:
            writer = ShardWriter(self.config.out / shard, self.config.storage)
            self.writers[shard] = self.files.enter_context(writer)
        return self.writers[shard]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Name the shards, then write their sidecars and the unit's record; after an error leave no trace of them."""
        with self.files, self.thread:
            if error is not None:
                self.thread.shutdown(cancel_futures=True)
                raise error
            for future in self.waiting:
                future.result()
        for name, writer in self.writers.items():
            write_index(self.config.out / name, writer.index())
        seal = unit_seal(self.unit, self.plan)
        record = UnitRecord(seal, self.scans, self.skipped, tuple(sorted(self.writers)))
        write_unit(self.config.out, self.unit.name, record)


def _picture(case: Case, sample: SamplePlan, view: View, size: tuple[int, int], config: EmbedConfig) -> np.ndarray:
    """(h, w) uint8: the slice in its view and the encoder's first window, of the mask's `size`."""
    hu = torch.from_numpy(case.image[sample.slice : sample.slice + 1])
    window = config.input.windows[0] if config.input.channels == "windows" else config.input.window
    pixels = resize_pixels(to_channels(hu, [0], InputConfig(window=window)), [view], max(size))
    return pixels[0, 0].round().to(torch.uint8).numpy()


def _record(case: Case, sample: SamplePlan, view: View, side: int, body: BodyBox | None) -> SampleRecord:
    transform = transform_to_input(*case.image.shape[1:], side, view)
    if body:
        transform[:, 2] -= transform[:, :2] @ [body.left, body.top]
    return SampleRecord(
        case.name,
        sample.slice,
        sample.view,
        sample.stratum,
        sample.pixels,
        native_shape=tuple(case.geometry.shape[1:]),
        spacing=tuple(round(mm, 6) for mm in case.spacing),
        transform=tuple(tuple(row) for row in transform.round(6).tolist()),
        body=body,
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
