import subprocess
import sys
import threading
import time

import pytest
from store_reading import GIB, assert_nothing_wrong_in, is_begin_of_tar, read_all, wait_until

from kitsam.ct.strata import STRATA
from kitsam.shards.batches import batches
from kitsam.shards.config import CacheConfig
from kitsam.shards.reader import ShardSet


@pytest.mark.parametrize("count", [1, 3])
def test_several_tars_are_on_their_way_at_once(store, address, tmp_path, count):
    store.holds = is_begin_of_tar
    remote = ShardSet(address, CacheConfig(tmp_path, fetches=count))
    read_all(remote, fetch_ahead=6)
    wait_until(lambda: len(store.held) == count)
    time.sleep(0.1)
    assert len(store.held) == count


def test_a_run_that_ends_waits_for_none_and_leaves_none(store, address, tmp_path):
    store.holds = is_begin_of_tar
    remote = ShardSet(address, CacheConfig(tmp_path))
    began = time.monotonic()
    read_all(remote, 2, fetch_ahead=20)
    assert time.monotonic() - began < 20
    store.release.set()
    wait_until(lambda: not any(thread.name == "fetch" for thread in threading.enumerate()))
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".lock"}


def test_no_more_is_fetched_ahead_than_the_cache_holds(store, address, shards, tmp_path):
    train = ShardSet(shards).manifest.train
    bound = sum(entry.bytes for entry in train) - 1
    remote = ShardSet(address, CacheConfig(tmp_path, size=bound / GIB))
    order = remote.order("natural", 8, 0, STRATA)
    assert {address.shard for step in range(40) for address in order.batch(step)} == {*range(len(train))}
    store.holds = is_begin_of_tar
    run = batches(remote, order, range(40), lambda *_: 0, fetch_ahead=40)
    next(run)
    time.sleep(0.5)
    assert 0 < len(store.held) < len(train)
    run.close()


def test_processes_that_share_a_cache_fetch_each_tar_once(store, address, shards, tmp_path):
    code = """
import sys
from pathlib import Path
from kitsam.ct.strata import STRATA
from kitsam.shards.batches import batches
from kitsam.shards.config import CacheConfig
from kitsam.shards.reader import ShardSet
shards = ShardSet(sys.argv[1], CacheConfig(Path(sys.argv[2]), ahead=0))
for _ in batches(shards, shards.order("natural", 8, 0, STRATA), range(20), lambda *_: 0, fetch_ahead=5):
    pass
"""
    started = [subprocess.Popen([sys.executable, "-c", code, address, str(tmp_path)]) for _ in range(3)]
    assert [process.wait(120) for process in started] == [0, 0, 0]
    tars = [name for name, _ in store.requests if name.endswith(".tar")]
    assert tars and len(tars) == len({*tars})
    assert_nothing_wrong_in(tmp_path, shards)
