from contextlib import ExitStack

import pytest
from store_reading import FAULTS, GIB, assert_nothing_wrong_in, assert_same, is_begin_of_tar, read_all

from kitsam.ct.strata import STRATA
from kitsam.shards import head_start
from kitsam.shards.config import CacheConfig
from kitsam.shards.index import SampleEntry
from kitsam.shards.reader import ShardSet


def test_the_first_batches_wait_for_no_tar(store, address, shards, tmp_path):
    store.holds = is_begin_of_tar
    remote = ShardSet(address, CacheConfig(tmp_path))
    assert_same(read_all(ShardSet(shards)), read_all(remote, fetch_ahead=3))
    assert store.held and not list(tmp_path.glob("*.tar"))


def test_a_process_that_fetches_no_tars_has_one_too(store, address, shards, tmp_path):
    store.holds = is_begin_of_tar
    remote = ShardSet(address, CacheConfig(tmp_path))
    assert_same(read_all(ShardSet(shards), rank=1, ranks=2), read_all(remote, rank=1, ranks=2, fetch_ahead=0))
    assert not store.held


@pytest.mark.parametrize("fault", FAULTS)
def test_a_sample_that_comes_wrong_waits_for_its_tar(store, patience, address, shards, tmp_path, fault):
    remote = ShardSet(address, CacheConfig(tmp_path))
    for entry in remote.manifest.train:
        remote.index(entry)
        store.faults[f"set/{entry.name}"] = [fault] * (2 if fault == "hang up" else 1)
    assert_same(read_all(ShardSet(shards), 2), read_all(remote, 2, workers=0))
    assert list(tmp_path.glob("*.tar"))
    assert_nothing_wrong_in(tmp_path, shards)


def test_it_ends_where_a_server_gives_no_samples(store, address, tmp_path):
    remote = ShardSet(address, CacheConfig(tmp_path))
    for entry in remote.manifest.train:
        remote.index(entry)
    order = remote.order("natural", 8, 0, STRATA)
    name = remote.manifest.train[order.batch(0)[0].shard].name
    store.faults[f"set/{name}"] = [403]
    remote.read(order.batch(0))
    assert remote.source.head_start.left == 0


def test_it_ends_with_its_bytes(store, address, shards, tmp_path, monkeypatch):
    whole = ShardSet(shards)
    first = whole.order("natural", 8, 0, STRATA).batch(0)
    entries = [whole.index(whole.manifest.train[one.shard]).samples[one.sample] for one in first]
    size = sum(sum(entry.mask) - entry.embedding for entry in entries)
    for allowed, tars in ((size, 0), (size - 1, len({one.shard for one in first}))):
        monkeypatch.setattr("kitsam.shards.source.HEAD_START", allowed)
        cache = tmp_path / str(allowed)
        assert_same(read_all(whole, 1), read_all(ShardSet(address, CacheConfig(cache)), 1, workers=0))
        assert len(list(cache.glob("*.tar"))) == tars


def test_what_was_opened_leaves_no_file(store, address, tmp_path):
    remote = ShardSet(address, CacheConfig(tmp_path))
    read_all(remote, 3)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".lock"}


def test_samples_without_checksums_wait_for_their_tars(tmp_path):
    entry = SampleEntry("k", "c", 0, 0, (1, 0, 0, 0), 512, (600, 10), (700, 10))
    start = head_start.HeadStart("s3://nowhere", tmp_path, GIB)
    with ExitStack() as stack:
        assert start.open({None: [entry]}, stack) == {}
    assert start.left == GIB
