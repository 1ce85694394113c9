"""Processes that compute in step: waiting for data is told from hanging.

A collective operation cannot tell why another process does not come, and NCCL ends a process whose operation takes too
long with a crash. So each process says again and again how far it has come and whether it waits for data, through
torch's store. One that has stood still for half a limit begins to look at the others. It ends when one of them has
given no sign of life for a whole limit, or when none has got on and nobody waits for data, with a line that names who
was not heard of. The collectives' own limit lies far above.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple, TypeVar

import torch.distributed as dist

from kitsam.system.processes import GOES_ON, open_store
from kitsam.system.streams import ERR, OUT

T = TypeVar("T")
LOOKS = 4  # within a limit, but
LEAST_PAUSE, LONGEST_PAUSE = 0.05, 5.0  # seconds between them


class _State(NamedTuple):
    """What a process says of itself."""

    beats: int = 0  # pieces of work done
    waits: int = 0  # for data: how many times over
    signs: int = 0  # of life

    @classmethod
    def parse(cls, text: bytes) -> "_State":
        return cls(*map(int, text.split()))

    def text(self) -> str:
        return " ".join(map(str, self))


class _Seen(NamedTuple):
    """The last news of another process, and when there was some."""

    state: _State
    life: float  # seconds of the monotonic clock
    progress: float

    def after(self, state: _State, now: float) -> "_Seen":
        life = self.life if state.signs == self.state.signs else now
        return _Seen(state, life, self.progress if state.beats == self.state.beats else now)

    def gets_on(self, now: float, limit: float) -> bool:
        """Whether the process lives, and works or waits for data."""
        return now - self.life < limit and (self.state.waits > 0 or now - self.progress < limit)


class Watch:
    """Ends this process when all of them hang; one process alone is not watched."""

    def __init__(self, command: str, limit: timedelta) -> None:
        """`command`: how the line begins that says why the process ends."""
        self.command = command
        self.limit = limit  # may be changed at any time
        self.beats, self.waits = 0, 0
        self.thread: threading.Thread | None = None
        self.closed = threading.Event()
        if dist.is_initialized() and dist.get_world_size() > 1:
            self.store = open_store("watch")
            self.store.set(str(dist.get_rank()), _State().text())
            dist.barrier()  # from here on all keys exist
            # The store's answers are waited for in another thread: there may be none.
            self.asking = ThreadPoolExecutor(1)
            self.answer = self.asking.submit(time.monotonic)
            self.thread = threading.Thread(target=self._look_on, daemon=True)
            self.thread.start()

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *exception: object) -> None:
        self.closed.set()
        if self.thread:
            self.thread.join()
            self.asking.shutdown()

    def beat(self) -> None:
        """This process has got on."""
        self.beats += 1

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A block that reads or writes files, which may take as long as it takes."""
        self.waits += 1
        try:
            yield
        finally:
            self.waits -= 1
            self.beats += 1

    def waiting_for(self, items: Iterator[T]) -> Iterator[T]:
        """The same items, each one waited for."""
        end = object()
        while True:
            with self.waiting():
                item = next(items, end)
            if item is end:
                return
            yield item

    def _look_on(self) -> None:
        """In a thread of its own, which runs while the main one stands in a collective operation."""
        rank, ranks = dist.get_rank(), dist.get_world_size()
        others = [other for other in range(ranks) if other != rank]
        now = time.monotonic()
        state, last_beat, last_wait = _State(), now, now
        seen = {other: _Seen(_State(-1), now, now) for other in others}
        while not self.closed.wait(min(max(self.limit.total_seconds() / LOOKS, LEAST_PAUSE), LONGEST_PAUSE)):
            now, limit = time.monotonic(), self.limit.total_seconds()
            last_beat = now if self.beats != state.beats else last_beat
            last_wait = now if self.waits else last_wait
            state = _State(self.beats, self.waits, state.signs + 1)
            self._ask(self.store.set, str(rank), state.text())
            if now - last_beat < limit / 2:
                seen = {other: _Seen(_State(-1), now, now) for other in others}
                continue
            for other, text in zip(others, self._ask(self.store.multi_get, list(map(str, others))) or []):
                seen[other] = seen[other].after(_State.parse(text), now)
            silent = [other for other in others if now - seen[other].life >= limit]
            all_stand = now - last_wait >= limit and not any(other.gets_on(now, limit) for other in seen.values())
            if now - last_beat >= limit and (silent or all_stand):
                self._end(rank, silent, limit)

    def _ask(self, call: Callable[..., T], *words: object) -> T | None:
        """What the store answers, None where it does not, for the process that keeps it has gone or hangs."""
        if not self.answer.done():
            return None
        self.answer = self.asking.submit(call, *words)
        try:
            return self.answer.result(LONGEST_PAUSE)
        except (TimeoutError, RuntimeError):
            return None

    def _end(self, rank: int, silent: list[int], limit: float) -> None:
        who = f"nothing was heard of process {', '.join(map(str, silent))}" if silent else "no process got on"
        ERR.line(
            f"{self.command}: error: process {rank}: another process has ended or does not answer "
            f"({who} for {limit:g} s); {GOES_ON}"
        )
        OUT.flush()
        os._exit(1)  # the main thread stands in torch, where no exception reaches it
