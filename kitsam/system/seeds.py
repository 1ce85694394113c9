"""Random numbers that depend on what they are for, not on when they are drawn.

Every draw names its purpose: `generator(seed, "views", case, slice)`. The same names give the same numbers in
any process, in any order, after any restart; Python's and torch's global states are never touched.
"""

import hashlib

import numpy as np


def derive(*names: int | str) -> int:
    """A 64-bit seed from whatever the draw is for."""
    text = "\x1f".join(f"{type(name).__name__}:{name}" for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def generator(*names: int | str) -> np.random.Generator:
    return np.random.default_rng(derive(*names))
