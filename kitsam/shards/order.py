"""Order of training samples: a pure function of the step.

Every stratum is an endless sequence of passes over its samples. Pass `p` permutes the stratum's shards by
(seed, stratum, p), takes them in windows of a few shards and permutes the samples inside a window, so that a step
reads few files. A batch takes its quota from each sequence at a position known from the step alone: any rank can name any batch
without reading data, resuming is free, and the order does not depend on how many ranks there are.

A quota that is no whole number is carried over (largest remainder): after any number of steps a stratum is behind or
ahead by a few samples, and exactly even whenever the step's slots divide by the quotas' sum. Cost: a few microseconds a step for the
counts, one permutation of a window in memory per stratum.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import gcd, lcm
from typing import NamedTuple

import numpy as np

from kitsam.system.errors import OptionError
from kitsam.system.seeds import generator

WINDOW_SHARDS = 4  # shards whose samples are mixed; bounds the files a step reads


class SampleAddress(NamedTuple):
    shard: int  # index in the list the order was made from
    sample: int  # index in that shard


@dataclass(frozen=True)
class StratumShards:
    """The shards of one stratum: their numbers in the manifest and how many samples each holds."""

    shards: tuple[int, ...]
    samples: tuple[int, ...]


def quota_weights(quotas: str | Mapping[str, float], available: Mapping[str, int]) -> dict[str, int]:
    """Whole-number weights of the strata in a batch; strata without samples are left out.

    `quotas`: a table of shares, or "natural" for the data's own. Raises `OptionError` for an unknown stratum, a negative share, or
    when nothing can be drawn.
    """
    if quotas == "natural":
        shares = {stratum: Fraction(count) for stratum, count in available.items()}
    else:
        for stratum, share in quotas.items():
            if stratum not in available:
                raise OptionError(f"--quotas: unknown stratum {stratum} (known: {', '.join(available)})")
            if not 0 <= share < float("inf"):
                raise OptionError(f"--quotas: the share of {stratum} must be a number from 0, not {share}")
        shares = {stratum: Fraction(str(share)) for stratum, share in quotas.items()}
    drawn = {stratum: share for stratum, share in shares.items() if share and available[stratum]}
    if not drawn:
        raise OptionError(f"--quotas: no training sample in any of {', '.join(shares)}")
    scale = lcm(*(share.denominator for share in drawn.values()))
    weights = {stratum: int(share * scale) for stratum, share in drawn.items()}
    common = gcd(*weights.values())
    return {stratum: weight // common for stratum, weight in weights.items()}


class BatchCounts:
    """How many samples of each stratum the batches hold."""

    def __init__(self, weights: Sequence[int], batch_size: int) -> None:
        self.weights, self.batch_size = tuple(weights), batch_size
        self.total = sum(weights)
        # After so many steps every stratum has had exactly its share, and the counts repeat.
        self.period = self.total // gcd(self.total, batch_size)
        self._carry = [0] * len(weights)  # what is still owed, in units of 1 / total
        self._drawn = [tuple([0] * len(weights))]  # by step, cumulative, grown as asked

    def drawn_before(self, step: int) -> tuple[int, ...]:
        """Samples of each stratum in the batches before `step`."""
        periods, rest = divmod(step, self.period)
        while len(self._drawn) <= rest:
            self._drawn.append(tuple(map(sum, zip(self._drawn[-1], self._next_counts()))))
        whole = periods * self.period * self.batch_size // self.total
        return tuple(count + whole * weight for count, weight in zip(self._drawn[rest], self.weights))

    def _next_counts(self) -> list[int]:
        owed = [carry + weight * self.batch_size for carry, weight in zip(self._carry, self.weights)]
        counts = [max(0, amount // self.total) for amount in owed]
        left = [amount - count * self.total for amount, count in zip(owed, counts)]
        for missing in _signs(self.batch_size - sum(counts)):
            drawable = range(len(left)) if missing > 0 else [i for i, count in enumerate(counts) if count]
            index = max(drawable, key=lambda i: missing * left[i])
            counts[index] += missing
            left[index] -= missing * self.total
        self._carry = left
        return counts


def _signs(difference: int) -> list[int]:
    return [1 if difference > 0 else -1] * abs(difference)


class SampleOrder:
    """Names the samples of any batch. See the module's text for the order itself."""

    def __init__(
        self, strata: Mapping[str, StratumShards], weights: Mapping[str, int], batch_size: int, seed: int
    ) -> None:
        self.strata = {stratum: strata[stratum] for stratum in weights}
        self.seed, self.batch_size = seed, batch_size
        self._samples = {stratum: sum(of.samples) for stratum, of in self.strata.items()}
        self.counts = BatchCounts(tuple(weights.values()), batch_size)
        self._window = lru_cache(maxsize=4 * len(weights))(self._permuted_window)
        self._windows = lru_cache(maxsize=2 * len(weights))(self._pass_windows)

    def batch(self, step: int) -> list[SampleAddress]:
        """The global batch of a step, stratum by stratum."""
        before, after = self.counts.drawn_before(step), self.counts.drawn_before(step + 1)
        return [
            self._sample(stratum, position)
            for stratum, first, last in zip(self.strata, before, after)
            for position in range(first, last)
        ]

    def rank_batch(self, step: int, rank: int, ranks: int) -> list[SampleAddress]:
        """Slots rank, rank + ranks, ... of the global batch, so that every rank has its share of each stratum."""
        return self.batch(step)[rank::ranks]

    def _sample(self, stratum: str, position: int) -> SampleAddress:
        number, index = divmod(position, self._samples[stratum])
        starts, _ = self._windows(stratum, number)
        window = int(np.searchsorted(starts, index, side="right")) - 1
        return self._window(stratum, number, window)[index - int(starts[window])]

    def _pass_windows(self, stratum: str, number: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """First position of each window of a pass, and the window's shards (positions in the stratum's list)."""
        samples = np.array(self.strata[stratum].samples)
        shards = generator(self.seed, "shards", stratum, number).permutation(len(samples))
        windows = [shards[first : first + WINDOW_SHARDS] for first in range(0, len(shards), WINDOW_SHARDS)]
        sizes = [samples[window].sum() for window in windows]
        return np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int), windows

    def _permuted_window(self, stratum: str, number: int, window: int) -> list[SampleAddress]:
        of = self.strata[stratum]
        members = self._windows(stratum, number)[1][window]
        addresses = [
            SampleAddress(of.shards[shard], sample) for shard in members for sample in range(of.samples[shard])
        ]
        order = generator(self.seed, "samples", stratum, number, window).permutation(len(addresses))
        return [addresses[index] for index in order]
