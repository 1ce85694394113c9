"""Slices read ahead of those who use them, by a few threads into memory that is used again and again.

Reading, PNG and zlib release the interpreter's lock, so threads are enough; one thread reads a whole batch. Fresh
memory for each batch would cost more than the reading. A batch is therefore valid only until the next one is taken.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import islice
from typing import TypeVar

import torch

from kitsam.shards.fetch import Fetcher
from kitsam.shards.manifest import ShardEntry
from kitsam.shards.order import SampleOrder
from kitsam.shards.reader import Buffer, Samples, ShardSet

T = TypeVar("T")


def batches(
    shards: ShardSet,
    order: SampleOrder,
    steps: range,
    prepare: Callable[[int, Samples], T],
    *,
    rank: int = 0,
    ranks: int = 1,
    workers: int = 2,
    fetch_ahead: int = 0,
) -> Iterator[T]:
    """Yield `prepare(step, samples)` for each step, with this rank's share of the global batch.

    `workers`: threads; with 0 a batch is read when it is taken. `fetch_ahead`: how many steps before they are needed
    the shards of a set at an address are fetched, for all ranks of the machine; 0 leaves that to another process.
    """

    def reads() -> Iterator[Callable[[Buffer], T]]:
        for step in steps:
            # The addresses are looked up in this thread: the order caches windows, and is not safe for several threads.
            addresses = order.rank_batch(step, rank, ranks)
            yield lambda into, step=step, addresses=addresses: prepare(step, shards.read(addresses, into))

    with ExitStack() as stack:
        fetcher = Fetcher(shards, order, steps, fetch_ahead, stack) if fetch_ahead and shards.source.remote else None
        ahead = stack.enter_context(closing(_read_ahead(reads(), shards, order.batch_size // ranks, workers)))
        for step in steps:
            if fetcher:
                fetcher.advance(step)
            yield next(ahead)


def case_batches(
    shards: ShardSet, cases: Sequence[ShardEntry], size: int, prepare: Callable[[int, Samples], T], workers: int = 2
) -> Iterator[T]:
    """Yield `prepare(number of the case, samples)` for each `size` slices of whole validation cases, in order."""

    def reads() -> Iterator[Callable[[Buffer], T]]:
        for number, case in enumerate(cases):
            for first in range(0, case.samples, size):
                yield lambda into, number=number, case=case, first=first: prepare(
                    number, shards.validation_slices(case, first, size, into)
                )

    return _read_ahead(reads(), shards, size, workers)


def _read_ahead(
    reads: Iterator[Callable[[Buffer], T]],  # each is given a buffer
    shards: ShardSet,
    size: int,  # most slices of a batch
    workers: int,
) -> Iterator[T]:
    """Yield what each of `reads` returns; while one is in use, `workers` of them are read."""
    buffers = deque(_Lent(shards.buffer(size)) for _ in range(workers + 1))
    with ExitStack() as stack:
        threads = _start_threads(workers, stack) if workers else None

        def begin(read: Callable[[Buffer], T]) -> Callable[[], tuple[T, _Lent]]:
            """A call that returns the batch: it waits for the thread that reads it, or without threads reads it."""

            def call() -> tuple[T, _Lent]:
                buffer = buffers.popleft()
                return read(buffer.wait()), buffer

            return threads.submit(call).result if threads else call

        calls = deque(map(begin, islice(reads, max(workers, 1))))
        while calls:
            batch, buffer = calls.popleft()()
            calls.extend(map(begin, islice(reads, 1)))
            yield batch
            buffer.release()
            buffers.append(buffer)


def _start_threads(count: int, stack: ExitStack) -> ThreadPoolExecutor:
    # Each computes with one thread of torch: more would take the cores of the training step.
    threads = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    stack.callback(threads.shutdown, cancel_futures=True)
    return threads


class _Lent:
    """Memory for one batch after another.

    A GPU copies from pinned memory while the program goes on: `release` marks the end of that copy, `wait` waits for
    it.
    """

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer
        self.copy_end = torch.cuda.Event() if buffer.embeddings.is_pinned() else None

    def release(self) -> None:
        if self.copy_end:
            self.copy_end.record()

    def wait(self) -> Buffer:
        if self.copy_end:
            self.copy_end.synchronize()
        return self.buffer
