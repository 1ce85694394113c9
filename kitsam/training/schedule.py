"""Learning rate as a function of the step: linear warm-up, then half a cosine; another half for what is added later.

A run that is prolonged begins each tail at the peak again, a warm restart (Loshchilov and Hutter, SGDR, ICLR 2017),
without another warm-up: AdamW's moments are there already. The rate follows from the ends alone, whenever the run was
prolonged, so that one which is broken off goes on to the same weights.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence

from kitsam.training.config import OptimizerConfig


def learning_rate(step: int, ends: Sequence[int], config: OptimizerConfig) -> float:
    """Rate of optimizer step `step`, counted from 0; the last before each of `ends` comes close to the final rate.

    `ends`: rising; one for a run that was never prolonged.
    """
    tail = min(bisect_right(ends, step), len(ends) - 1)
    if tail == 0 and step < config.warmup_steps:
        return config.peak_rate * (step + 1) / config.warmup_steps
    start = ends[tail - 1] if tail else config.warmup_steps
    share = (step - start) / max(1, ends[tail] - start)
    return config.final_rate + (config.peak_rate - config.final_rate) * (1 + math.cos(math.pi * share)) / 2
