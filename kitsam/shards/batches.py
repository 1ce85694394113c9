"""Batches of a training run, read ahead of the steps by a few threads into memory that is used again and again.

Reading, PNG and zlib release the interpreter's lock, so threads are enough; one thread reads a whole batch. Fresh
memory for each batch would cost more than the reading. A batch is therefore valid only until the next one is taken.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from kitsam.shards.fetch import Fetcher
from kitsam.shards.order import SampleAddress, SampleOrder
from kitsam.shards.reader import Samples, ShardSet

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
    ahead = max(workers, 1)  # batches in the making at a time
    buffers = [_Buffer(shards.buffer(order.batch_size // ranks)) for _ in range(workers + 1)]
    with ExitStack() as stack:
        fetcher = Fetcher(shards, order, steps, fetch_ahead, stack) if fetch_ahead and shards.source.remote else None
        threads = _start_threads(workers, stack) if workers else None

        def read(step: int, addresses: list[SampleAddress], buffer: _Buffer) -> tuple[T, _Buffer]:
            return prepare(step, shards.read(addresses, buffer.wait())), buffer

        def begin(step: int) -> Callable[[], tuple[T, _Buffer]]:
            """A call that returns the batch: it waits for the thread that reads it, or without threads reads it."""
            # The addresses are looked up in this thread: the order caches windows, and is not safe for several threads.
            call = partial(read, step, order.rank_batch(step, rank, ranks), buffers.pop())
            return threads.submit(call).result if threads else call

        calls = deque(begin(step) for step in steps[:ahead])
        for number, step in enumerate(steps):
            if fetcher:
                fetcher.advance(step)
            batch, buffer = calls.popleft()()
            yield batch
            buffer.release()
            buffers.append(buffer)
            if number + ahead < len(steps):
                calls.append(begin(steps[number + ahead]))


def _start_threads(count: int, stack: ExitStack) -> ThreadPoolExecutor:
    # Each computes with one thread of torch: more would take the cores of the training step.
    threads = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))
    stack.callback(threads.shutdown, cancel_futures=True)
    return threads


class _Buffer:
    """Memory for the embeddings of one batch after another.

    A GPU copies from pinned memory while the program goes on: `release` marks the end of that copy, `wait` waits for
    it.
    """

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows  # (B, 256, G, G)
        self.copy_end = torch.cuda.Event() if rows.is_pinned() else None

    def release(self) -> None:
        if self.copy_end:
            self.copy_end.record()

    def wait(self) -> Tensor:
        if self.copy_end:
            self.copy_end.synchronize()
        return self.rows
