"""Processes that work on cases beside the one that a command runs in."""

import multiprocessing
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from kitsam.system.errors import KitsamError
from kitsam.system.machine import available_cores


class _Pool(ProcessPoolExecutor):
    """Its processes never see Ctrl-C, which a terminal sends to all: they end when the command does."""

    def submit(self, *call: Any, **options: Any) -> Future:
        # A process that is started inherits what is blocked; here Ctrl-C only waits until it may come.
        if not hasattr(signal, "pthread_sigmask"):  # Windows
            return super().submit(*call, **options)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(*call, **options)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def case_workers(workers: int | None, cases: int) -> Iterator[ProcessPoolExecutor]:
    """Up to `workers` processes, or as many as there are cores, but no more than cases.

    Raises `KitsamError` when one of them dies.
    """
    # Forked from a process with threads, a worker can hang.
    start = multiprocessing.get_context("spawn")
    pool = _Pool(max(min(cases, workers or available_cores()), 1), start)
    try:
        yield pool
    except BrokenProcessPool as error:
        raise KitsamError(
            "a process that scores cases died, perhaps for want of memory: try fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
