"""Learning rate as a function of the step: linear warm-up, then half a cosine."""

import math

from kitsam.training.config import OptimizerConfig


def learning_rate(step: int, steps: int, config: OptimizerConfig) -> float:
    """Rate of optimizer step `step`, counted from 0; the last of `steps` comes close to the final rate."""
    if step < config.warmup_steps:
        return config.peak_rate * (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return config.final_rate + (config.peak_rate - config.final_rate) * (1 + math.cos(math.pi * share)) / 2
