"""Parts of one image on a CPU's cores, each part by one thread from end to end.

Operators that torch cuts over all cores meet after each of them; a part that one core computes alone stays in its own
cache and waits for nobody, which on a machine that others use as well is worth as much.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch


def in_threads(work: Callable[..., None], parts: Sequence[tuple], most: int | None = None) -> None:
    """`work(*part)` for each part in threads, at most `most`; without gradients, in the caller's precision."""
    bfloat16 = torch.is_autocast_enabled("cpu")

    def compute(*part: object) -> None:
        # Inference mode and autocast hold for one thread only.
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            work(*part)

    pool = _pool(min(torch.get_num_threads(), most or len(parts)))
    for task in [pool.submit(compute, *part) for part in parts]:
        task.result()


@cache
def _pool(number: int) -> ThreadPoolExecutor:
    """Threads that share the number of threads that torch may use. One pool a number: each thread keeps memory."""
    return ThreadPoolExecutor(number, initializer=torch.set_num_threads, initargs=(torch.get_num_threads() // number,))
