"""Shards of coming steps, fetched into the cache in the order in which they will be needed, several at a time.

Their indexes come first: they are small, and without its index no sample of a tar can be read. No more is fetched ahead
than the cache holds, or what is needed next would make room for what is needed later. The threads are daemons: a
command that ends waits for none of them, and a later one removes what they leave half fetched.
"""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from queue import SimpleQueue

from kitsam.shards.order import SampleOrder
from kitsam.shards.reader import ShardSet
from kitsam.system.errors import KitsamError

LAST_BLOCK = 1.0  # seconds; a thread ends with the block that it receives


class Fetcher:
    """Fetches for a run of `steps` what it will need within `ahead` steps, until the stack is left."""

    def __init__(self, shards: ShardSet, order: SampleOrder, steps: range, ahead: int, stack: ExitStack) -> None:
        self.shards, self.order, self.ahead = shards, order, ahead
        self.next, self.stop = steps.start, steps.stop
        self.last_use: dict[int, int] = {}  # number of a shard -> last step that is known to need it
        self.under_way: set[int] = set()  # shards whose tars are to be fetched
        self.calls: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self.ended = threading.Event()
        count = shards.source.fetches
        self.threads = [threading.Thread(target=self._work, name="fetch", daemon=True) for _ in range(count)]
        for thread in self.threads:
            thread.start()
        stack.callback(self._end)

    def advance(self, step: int) -> None:
        """Fetch the shards of the next `ahead` steps from `step` on, as far as the cache can hold them.

        A shard fetched before is fetched again when a later step needs it: if it is still in the cache, that only marks
        it as used.
        """
        self.last_use = {number: last for number, last in self.last_use.items() if last >= step}
        before, self.next = {*self.last_use}, max(self.next, step)
        wanted: dict[int, None] = {}
        while self.next < min(step + self.ahead, self.stop):
            numbers = dict.fromkeys(address.shard for address in self.order.batch(self.next))
            if self._bytes({*self.last_use, *numbers}) > self.shards.source.bound:
                break
            self.last_use |= dict.fromkeys(numbers, self.next)
            wanted |= numbers
            self.next += 1
        for number in wanted:
            if number not in before:
                self.calls.put(lambda number=number: self.shards.index(self.shards.manifest.train[number]))
        for number in wanted:
            if number not in self.under_way:
                self.under_way.add(number)
                self.calls.put(lambda number=number: self._fetch(number))

    def _bytes(self, numbers: set[int]) -> int:
        return sum(self.shards.manifest.train[number].bytes for number in numbers)

    def _fetch(self, number: int) -> None:
        self.under_way.discard(number)
        entry = self.shards.manifest.train[number]
        self.shards.source.open(entry.name, entry.sha256, self.ended).close()

    def _work(self) -> None:
        while True:
            call = self.calls.get()
            if self.ended.is_set():
                return
            # After an error the reader of the shard tries again, and reports it.
            with suppress(KitsamError):
                call()

    def _end(self) -> None:
        self.ended.set()
        for _ in self.threads:
            self.calls.put(lambda: None)  # wakes one that waits for work
        limit = time.monotonic() + LAST_BLOCK
        for thread in self.threads:
            thread.join(max(0, limit - time.monotonic()))
