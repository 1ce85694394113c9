"""Shards behind the encoder: threads make the samples, write and hash them, and close the shards.

The encoder's thread hands over a batch and goes on. Some threads wait for its embeddings and make samples of them:
masks, boxes, records, checksums. Others write and hash, each shard by one of them and in order. One closes the shards
of a span, for which it waits for the disk, while the next span is encoded. The bytes do not depend on the number of
threads. Memory: the batches that wait.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import torch

from kitsam.ct.body import BodyBox
from kitsam.ct.case import Case
from kitsam.ct.views import View, resize_pixels, transform_to_input
from kitsam.ct.window import to_gray
from kitsam.embedding.config import EmbedConfig
from kitsam.embedding.plan import Plan, SamplePlan, masks_in_views
from kitsam.embedding.units import Member, Unit, unit_seal
from kitsam.shards.boxes import mask_boxes
from kitsam.shards.index import write_index
from kitsam.shards.sample import SampleRecord
from kitsam.shards.units import UnitRecord, write_unit
from kitsam.shards.writer import PackedSample, ShardWriter, pack

MAKERS, WRITERS = 4, 2  # threads
BATCHES_BEHIND = 8  # that may wait to be written


class SpanShards:
    """What becomes of a span of a unit: shards in a folder, and a record beside them."""

    def __init__(self, unit: Unit, folder: Path, config: EmbedConfig, plan: Plan) -> None:
        self.unit, self.folder, self.config, self.plan = unit, folder, config, plan
        self.writer_of = {name: number % WRITERS for number, name in enumerate(unit.shards)}
        self.skipped: dict[str, str] = {}  # case -> why
        self.scans: dict[str, str] = {}  # case -> SHA-256 of its scan
        self.shards: dict[str, ShardWriter] = {}
        self.files = ExitStack()

    def make(
        self,
        case: Case,
        members: tuple[Member, ...],
        views: list[View],
        embeddings: Callable[[], np.ndarray],  # waits for (B, 256, G, G) float16
        side: int,  # pixels of the encoder's input
    ) -> list[PackedSample]:
        samples = [member.sample for member in members]
        body = self.plan.cases[case.name].body
        records = [_record(case, sample, view, side, body) for sample, view in zip(samples, views)]
        places = [(sample.slice, sample.view) for sample in samples]
        masks = list(masks_in_views(case.label, places, self.config.views, self.config.seed, case.name))
        boxes = [
            mask_boxes(mask, record.pixel_of(mask), **self.plan.settings["boxes"])
            for mask, record in zip(masks, records)
        ]
        pictures = [
            _picture(case, sample, view, mask.shape, self.config) if self.config.keep_ct else None
            for sample, view, mask in zip(samples, views, masks)
        ]
        parts = zip(embeddings(), masks, records, boxes, pictures)
        return [
            pack(embedding, mask, record, self.config.storage, found, picture)
            for embedding, mask, record, found, picture in parts
        ]

    def write(self, members: tuple[Member, ...], samples: Future[list[PackedSample]], writer: int) -> None:
        """The samples whose shards are this writer's."""
        for member, sample in zip(members, samples.result()):
            if self.writer_of[member.shard] == writer:
                self._shard(member.shard).append(sample)

    def _shard(self, name: str) -> ShardWriter:
        if name not in self.shards:
            self.shards[name] = self.files.enter_context(ShardWriter(self.folder / name, self.config.storage))
        return self.shards[name]

    def close(self, written: list[Future[None]]) -> None:
        """Name the shards, then write their indexes and the record, when all samples are written."""
        for future in written:
            future.result()
        self.files.close()
        for name, shard in self.shards.items():
            write_index(self.folder / name, shard.index())
        record = UnitRecord(unit_seal(self.unit, self.plan), self.scans, self.skipped, tuple(sorted(self.shards)))
        write_unit(self.folder, self.unit.name, record)


class ShardThreads:
    """The threads, and what they still have to do."""

    def __init__(self, makers: ThreadPoolExecutor, writers: list[ThreadPoolExecutor], closer: ThreadPoolExecutor):
        self.makers, self.writers, self.closer = makers, writers, closer
        self.spans = ExitStack()  # their files, until they are closed
        self.batches: deque[Future[None]] = deque()
        self.closing: Future[None] | None = None

    def begin(self, span: SpanShards) -> None:
        self.spans.enter_context(span.files)

    def add(
        self,
        span: SpanShards,
        case: Case,
        members: tuple[Member, ...],
        views: list[View],
        embeddings: Callable[[], np.ndarray],
        side: int,
    ) -> None:
        """A batch, as `SpanShards.make` takes it."""
        samples = self.makers.submit(span.make, case, members, views, embeddings, side)
        for number, writer in enumerate(self.writers):
            self.batches.append(writer.submit(span.write, members, samples, number))
        while len(self.batches) > BATCHES_BEHIND * WRITERS:
            self.batches.popleft().result()

    def end(self, span: SpanShards) -> None:
        """Close the span's shards when their samples are written; waits until those of the span before are closed."""
        self.finish_closing()
        self.closing = self.closer.submit(span.close, [*self.batches])

    def finish_closing(self) -> None:
        if self.closing:
            self.closing.result()


@contextmanager
def shard_threads() -> Iterator[ShardThreads]:
    """When the block ends all spans are written and closed; after an error nothing unfinished is left of them."""
    makers = ThreadPoolExecutor(MAKERS, initializer=torch.set_num_threads, initargs=(1,))
    pools = [makers, *(ThreadPoolExecutor(1) for _ in range(WRITERS + 1))]
    threads = ShardThreads(makers, pools[1:-1], pools[-1])
    with threads.spans, ExitStack() as running:
        for pool in pools:
            running.enter_context(pool)
        try:
            yield threads
            threads.finish_closing()
        except BaseException:
            for pool in pools:
                pool.shutdown(wait=False, cancel_futures=True)
            raise


def _picture(case: Case, sample: SamplePlan, view: View, size: tuple[int, int], config: EmbedConfig) -> np.ndarray:
    """(h, w) uint8: the slice in its view and the encoder's first window, of the mask's `size`."""
    hu = torch.from_numpy(case.image[sample.slice : sample.slice + 1])
    pixels = resize_pixels(to_gray(hu, config.input)[:, None].expand(-1, 3, -1, -1), [view], max(size))
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
