"""Order of training samples: a pure function of the step.

Every stratum is an endless sequence of passes over its samples. Pass `p` permutes the stratum's shards by (seed,
stratum, p), takes them in windows of a few shards and permutes the samples inside a window, so that a step reads few
files. A batch takes its quota from each sequence at a position known from the step alone: any rank can name any batch
without reading data, resuming is free, and the order does not depend on the number of ranks. A quota that is not a
whole number is carried over (largest remainder): a stratum is at any step at most a few samples behind or ahead, and
exactly even whenever the slots so far divide by the sum of the weights. Cost: a few microseconds a step for the counts,
and one permuted window per stratum in memory.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import gcd, lcm
from typing import NamedTuple

import numpy as np

from kitsam.ct.labels import Target
from kitsam.system.errors import OptionError
from kitsam.system.seeds import generator

WINDOW_SHARDS = 4  # shards whose samples are mixed; bounds the files a step reads


class SampleAddress(NamedTuple):
    """Where a training sample is in its shard set."""

    shard: int  # number of the shard in the manifest
    sample: int  # index in that shard


@dataclass(frozen=True)
class StratumShards:
    """The shards of one stratum: their numbers in the manifest and how many samples each holds."""

    shards: tuple[int, ...]
    samples: tuple[int, ...]


def holds(stratum: str, target: Target) -> bool:
    """Whether slices of a stratum have something for the decoder `target` to find."""
    return stratum != "background" if target == "roi" else target in stratum.split("_")


def quota_weights(quotas: str | Mapping[str, float], available: Mapping[str, int]) -> dict[str, int]:
    """Whole-number weights of the strata in a batch; strata without samples are left out.

    `quotas`: a table of shares, or "natural" for the data's own; `available`: samples per stratum. Raises `OptionError`
    for an unknown stratum, a negative share, or when no stratum with a share has samples.
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
    positive = {stratum: share for stratum, share in shares.items() if share and available[stratum]}
    if not positive:
        option = "--shards" if quotas == "natural" else "--quotas"
        raise OptionError(f"{option}: no training sample in any of {', '.join(shares)}")
    scale = lcm(*(share.denominator for share in positive.values()))
    weights = {stratum: int(share * scale) for stratum, share in positive.items()}
    divisor = gcd(*weights.values())
    return {stratum: weight // divisor for stratum, weight in weights.items()}


class BatchCounts:
    """How many samples of each stratum the batches hold.

    With weights 1 and 2 and batches of 4, a batch is due 4/3 and 8/3 samples: the batches hold 1 + 3, 2 + 2, 1 + 3
    samples, after which both strata have had their share of 12 and the counts repeat.
    """

    def __init__(self, weights: Sequence[int], batch_size: int) -> None:
        self.weights, self.batch_size = tuple(weights), batch_size
        self.total = sum(weights)
        # After so many steps every stratum has had exactly its share, and the counts repeat.
        self.period = self.total // gcd(self.total, batch_size)
        self._carry = [0] * len(weights)  # of each stratum, in units of 1 / total
        self._sums = [(0,) * len(weights)]  # counts of the batches before each step of a period, as far as needed yet

    def samples_before(self, step: int) -> tuple[int, ...]:
        """Samples of each stratum in the batches before `step`."""
        periods, rest = divmod(step, self.period)
        while len(self._sums) <= rest:
            self._sums.append(tuple(map(sum, zip(self._sums[-1], self._next_counts()))))
        whole = periods * self.period * self.batch_size // self.total
        return tuple(count + whole * weight for count, weight in zip(self._sums[rest], self.weights))

    def _next_counts(self) -> list[int]:
        due = [carry + weight * self.batch_size for carry, weight in zip(self._carry, self.weights)]
        counts = [max(0, amount // self.total) for amount in due]
        carry = [amount - count * self.total for amount, count in zip(due, counts)]
        # Fill the batch up from the strata furthest behind, or take samples away from those furthest ahead.
        missing = self.batch_size - sum(counts)
        one = 1 if missing > 0 else -1
        for _ in range(abs(missing)):
            candidates = range(len(counts)) if missing > 0 else [i for i, count in enumerate(counts) if count]
            index = max(candidates, key=lambda i: one * carry[i])
            counts[index] += one
            carry[index] -= one * self.total
        self._carry = carry
        return counts


class SampleOrder:
    """Names the samples of any batch, by the order that the module's docstring explains."""

    def __init__(
        self, strata: Mapping[str, StratumShards], weights: Mapping[str, int], batch_size: int, seed: int
    ) -> None:
        self.strata = {stratum: strata[stratum] for stratum in weights}
        self.seed, self.batch_size = seed, batch_size
        self._samples = {stratum: sum(shards.samples) for stratum, shards in self.strata.items()}
        self.counts = BatchCounts(tuple(weights.values()), batch_size)
        self._window = lru_cache(maxsize=4 * len(weights))(self._draw_window)
        self._windows = lru_cache(maxsize=2 * len(weights))(self._draw_windows)

    def batch(self, step: int) -> list[SampleAddress]:
        """The global batch of a step, stratum by stratum."""
        before, after = self.counts.samples_before(step), self.counts.samples_before(step + 1)
        return [
            self._sample(stratum, position)
            for stratum, first, last in zip(self.strata, before, after)
            for position in range(first, last)
        ]

    def addresses(self) -> Iterator[list[SampleAddress]]:
        """All samples, shard by shard, each once."""
        for shards in self.strata.values():
            for shard, count in zip(shards.shards, shards.samples):
                yield [SampleAddress(shard, sample) for sample in range(count)]

    def rank_batch(self, step: int, rank: int, ranks: int) -> list[SampleAddress]:
        """Slots rank, rank + ranks, ... of the global batch, so that every rank has its share of each stratum."""
        return self.batch(step)[rank::ranks]

    def _sample(self, stratum: str, position: int) -> SampleAddress:
        number, index = divmod(position, self._samples[stratum])
        starts, _ = self._windows(stratum, number)
        window = int(np.searchsorted(starts, index, side="right")) - 1
        return self._window(stratum, number, window)[index - int(starts[window])]

    def _draw_windows(self, stratum: str, number: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """The windows of pass `number`: first position of each, (W,) int, and its shards, indices in the stratum."""
        samples = np.array(self.strata[stratum].samples)
        shards = generator(self.seed, "shards", stratum, number).permutation(len(samples))
        windows = [shards[first : first + WINDOW_SHARDS] for first in range(0, len(shards), WINDOW_SHARDS)]
        sizes = [samples[window].sum() for window in windows]
        return np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int), windows

    def _draw_window(self, stratum: str, number: int, window: int) -> list[SampleAddress]:
        """The samples of one window of pass `number`, in their order."""
        shards, samples = self.strata[stratum].shards, self.strata[stratum].samples
        _, windows = self._windows(stratum, number)
        # In the order of the set: a window of all shards is then the same however the samples lie in shards.
        addresses = [
            SampleAddress(shards[index], sample)
            for index in sorted(windows[window])
            for sample in range(samples[index])
        ]
        order = generator(self.seed, "samples", stratum, number, window).permutation(len(addresses))
        return [addresses[index] for index in order]
