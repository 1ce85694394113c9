"""What tests of sets in an object store share."""

import hashlib
import time

import numpy as np

from kitsam.ct.strata import STRATA
from kitsam.shards.batches import batches
from kitsam.shards.reader import ShardSet

GIB = 2**30
FAULTS = (500, 503, "cut", "stall", "hang up", "garbage", "short")


def read_all(shards: ShardSet, steps: int = 6, **options) -> list[np.ndarray]:
    order = shards.order("natural", 8, 0, STRATA)
    return list(batches(shards, order, range(steps), lambda _, samples: samples.stored.clone().numpy(), **options))


def assert_same(here: list[np.ndarray], there: list[np.ndarray]) -> None:
    assert len(here) == len(there) and all(map(np.array_equal, here, there))


def assert_nothing_wrong_in(cache, shards) -> None:
    """Every file has a checksum for its name, and that of its bytes, or is the index of a tar with that checksum."""
    known = {(shards / entry.name).with_suffix(".json").read_bytes() for entry in ShardSet(shards).manifest.train}
    for path in cache.iterdir():
        if path.suffix == ".tar":
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.stem
        elif path.suffix == ".json":
            assert path.read_bytes() in known
        else:
            assert path.suffix == ".lock"


def is_begin_of_tar(key: str, wanted: str) -> bool:
    """Where a tar begins there is no sample yet: such a request is for the tar, not for a sample."""
    return key.endswith(".tar") and wanted.startswith("bytes=0-")


def wait_until(condition) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)
