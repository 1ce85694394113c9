"""Coroutines in the thread that fsspec keeps for them, where all its drivers are at work."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


def run(coroutine: Coroutine[None, None, T]) -> T:
    """As fsspec's `sync`, which leaves a coroutine at work when the wait for it is interrupted."""
    from fsspec.asyn import get_loop

    ended = threading.Event()

    async def to_its_end() -> T:
        try:
            return await coroutine
        finally:
            ended.set()

    future = asyncio.run_coroutine_threadsafe(to_its_end(), get_loop())
    try:
        while not ended.wait(1):
            pass  # Windows takes Ctrl-C between two waits only
        return future.result()
    except BaseException:
        future.cancel()
        ended.wait(1)
        raise
