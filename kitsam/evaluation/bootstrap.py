"""95 % intervals of a mean over cases, by drawing the cases again and again.

The percentile bootstrap: the mean of as many cases drawn with replacement, ten thousand times, and the range that
holds the middle 95 % of these means. It says how far the mean would move with other cases of the same kind, not what
another training would change, and with fewer than some ten cases it is too narrow. The draws depend on the number of
cases alone, so that the same results always get the same interval.
"""

import numpy as np

from kitsam.system.seeds import generator

DRAWS, DRAWS_AT_ONCE = 10_000, 500
LEVEL = 0.95


def mean_intervals(values: np.ndarray) -> np.ndarray:
    """(N, K) values of N cases -> (K, 2) lower and upper bounds of the K means. One case: NaN."""
    count = len(values)
    if count < 2:
        return np.full((values.shape[1], 2), np.nan)
    rng = generator("bootstrap", count)
    # How often each case was drawn says as much as which were, and a product with the values gives the means.
    means = [
        rng.multinomial(count, np.full(count, 1 / count), DRAWS_AT_ONCE) @ values / count
        for _ in range(DRAWS // DRAWS_AT_ONCE)
    ]
    tail = (1 - LEVEL) / 2
    return np.quantile(np.concatenate(means), (tail, 1 - tail), axis=0).T
