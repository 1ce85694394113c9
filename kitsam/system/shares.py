"""Equal shares of a work for all processes, whatever the sizes of its items.

The items stand in a line, and each of P processes takes a P-th part of it. So at most P - 1 items are shared by several
processes, and the rest need not be put together again.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple


class Part(NamedTuple):
    """Some of an item."""

    item: int
    first: int
    stop: int


def cut_line(sizes: Sequence[int], processes: int, cut: Callable[[int, float], int]) -> list[list[Part]]:
    """Parts for each process, in order. An item of size 0 is one part.

    `cut`: an item and a place in it -> the place near it, 0 to the item's size, at which it may be cut.
    """
    starts = list(accumulate(sizes, initial=0))
    cuts = [0]
    for rank in range(1, processes):
        place = starts[-1] * rank / processes
        item = min(bisect_right(starts, place), len(sizes)) - 1
        cuts.append(starts[item] + cut(item, place - starts[item]) if sizes else 0)
    shares: list[list[Part]] = [[] for _ in range(processes)]
    for item, (start, end) in enumerate(pairwise(starts)):
        for first, stop in pairwise([start, *sorted({one for one in cuts if start < one < end}), end]):
            shares[bisect_right(cuts, first) - 1].append(Part(item, first - start, stop - start))
    return shares


def balance(loads: Sequence[float]) -> float:
    """Share of the time in which processes with such loads have something to do, until the last of them is done."""
    return sum(loads) / (len(loads) * max(loads)) if any(loads) else 1.0
