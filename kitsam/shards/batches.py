"""Batches of a training run, made ahead of the steps by a few threads, in buffers that are used again and again.

Reading, PNG and zlib release the interpreter, so threads do; a batch is made by one of them, whole. Fresh memory would cost more than the
reading. What is yielded stays valid until the next batch is asked for.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeVar

import torch
from torch import Tensor

from kitsam.shards.order import SampleOrder
from kitsam.shards.reader import Samples, ShardSet
from kitsam.system.errors import ShardError

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

    `workers`: threads; none makes each batch when it is asked for. `fetch_ahead`: steps by which the shards of a set at an address are
    fetched before they are needed, for all ranks of the machine; 0 leaves that to another process.
    """
    free = [_Buffer(shards.buffer(order.batch_size // ranks)) for _ in range(workers + 1)]
    with ExitStack() as stack:
        fetcher = _Fetcher(shards, order, steps, fetch_ahead, stack) if fetch_ahead and shards.source.remote else None

        def make(step: int, addresses: list, buffer: _Buffer) -> tuple[T, _Buffer]:
            return prepare(step, shards.read(addresses, buffer.wait())), buffer

        def begin(step: int) -> Callable[[], tuple[T, _Buffer]]:
            # The order is worked out here: it remembers, and is not made for several threads.
            work = make, step, order.rank_batch(step, rank, ranks), free.pop()
            return threads.submit(*work).result if workers else lambda: make(*work[1:])

        if workers:
            # One thread of torch in each: with more they would take the cores that the step computes on.
            threads = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
            stack.callback(threads.shutdown, cancel_futures=True)
        waiting = [begin(step) for step in steps[: max(workers, 1)]]
        for number, step in enumerate(steps):
            if fetcher:
                fetcher.reach(step)
            batch, buffer = waiting.pop(0)()
            yield batch
            buffer.release()
            free.append(buffer)
            if number + max(workers, 1) < len(steps):
                waiting.append(begin(steps[number + max(workers, 1)]))


class _Buffer:
    """Rows to read into, and when a GPU has copied what was there before."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self.copied = torch.cuda.Event() if rows.is_pinned() else None

    def release(self) -> None:
        if self.copied:
            self.copied.record()

    def wait(self) -> Tensor:
        if self.copied:
            self.copied.synchronize()
        return self.rows


class _Fetcher:
    """Brings the shards of the steps to come into the cache, in the order in which they will be needed."""

    def __init__(self, shards: ShardSet, order: SampleOrder, steps: range, ahead: int, stack: ExitStack) -> None:
        self.shards, self.order, self.ahead = shards, order, ahead
        self.next, self.last = steps.start, steps.stop
        self.asked: dict[int, Future] = {}
        self.thread = ThreadPoolExecutor(1)
        stack.callback(self.thread.shutdown, wait=False, cancel_futures=True)

    def reach(self, step: int) -> None:
        """Ask for the shards up to `ahead` steps from `step`. Those in use by then are asked for anew, so that they count as used."""
        while self.next < min(step + self.ahead, self.last):
            for number in dict.fromkeys(address.shard for address in self.order.batch(self.next)):
                if number not in self.asked or self.asked[number].done():
                    self.asked[number] = self.thread.submit(self._fetch, number)
            self.next += 1

    def _fetch(self, number: int) -> None:
        entry = self.shards.manifest.train[number]
        try:
            self.shards.source.open(entry.name, entry.sha256).close()
        except ShardError:
            pass  # who needs the shard tries again, and says so
