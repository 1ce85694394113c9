"""Shards from an S3 server that fails in each way that a store can, on the first try and for ever."""

import hashlib
import logging
import subprocess
import sys
import threading
import time

import fsspec
import numpy as np
import pytest
import s3fs
from hypothesis import given, settings
from hypothesis import strategies as st
from shards.object_store import BUCKET, ERRORS, object_store

from kitsam.cli import main
from kitsam.ct.strata import STRATA
from kitsam.shards import head_start
from kitsam.shards.batches import batches
from kitsam.shards.config import CacheConfig
from kitsam.shards.reader import ShardSet
from kitsam.system import download
from kitsam.system.errors import OptionError, ShardError

GIB = 2**30
FAULTS = (500, 503, "cut", "stall", "hang up", "garbage", "short")


@pytest.fixture(scope="module")
def server(shards):
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with object_store() as store:
        store.put(shards, "set")
        yield store


@pytest.fixture
def store(server, monkeypatch):
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(download, "FIRST_DELAY", 0.001)
    s3fs.S3FileSystem.clear_instance_cache()
    yield server
    server.release.set()
    wait_until(lambda: not any(thread.name == "fetch" for thread in threading.enumerate()))
    server.faults.clear()
    server.requests.clear()
    server.held.clear()
    server.holds = lambda key, wanted: False
    server.release.clear()


@pytest.fixture
def patience(monkeypatch):
    """The driver waits for a byte so briefly that a stall is soon met."""
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 1}})


@pytest.fixture
def address():
    return f"s3://{BUCKET}/set"


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


def test_the_same_batches_come_from_a_store_and_from_the_folder(store, address, shards, tmp_path):
    remote = ShardSet(address, CacheConfig(tmp_path))
    assert_same(read_all(ShardSet(shards), 20), read_all(remote, 20, fetch_ahead=5))


@pytest.mark.parametrize("fault", FAULTS)
def test_what_passes_is_overcome(store, patience, address, shards, tmp_path, fault):
    store.faults["set/manifest.json"] = [fault] if fault != "garbage" else []
    for entry in ShardSet(shards).manifest.train:
        store.faults[f"set/{entry.name}"] = [fault]
        store.faults[f"set/{entry.name}".replace(".tar", ".json")] = [fault]
    remote = ShardSet(address, CacheConfig(tmp_path, ahead=0))
    assert_same(read_all(ShardSet(shards)), read_all(remote))
    assert_nothing_wrong_in(tmp_path, shards)


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_pass_is_an_error_that_names_the_address(store, patience, address, shards, tmp_path, fault):
    remote = ShardSet(address, CacheConfig(tmp_path, ahead=0))
    name = remote.manifest.train[0].name
    store.faults[f"set/{name}"] = [fault] * 100
    with pytest.raises(ShardError, match=f"^{address}/{name}: [^\n]*tried 5 times[^\n]*$"):
        read_all(remote, steps=30)
    # aiohttp by itself asks once more where a connection that it kept was closed.
    assert store.count(f"set/{name}") == download.TRIES * (2 if fault == "hang up" else 1)
    assert_nothing_wrong_in(tmp_path, shards)


@pytest.mark.parametrize("status", [400, 403])
def test_who_is_refused_does_not_ask_again(store, address, tmp_path, status):
    store.faults["set/manifest.json"] = [status] * 9
    with pytest.raises(ShardError, match=f"^{address}/manifest.json: {ERRORS[status][1]}$"):
        ShardSet(address, CacheConfig(tmp_path))
    assert store.count("set/manifest.json") == 1


def test_without_credentials_the_error_says_so_at_once(store, address, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert main(["shards", "info", address, f"--cache.folder={tmp_path}"]) == 1
    assert f"{address}/manifest.json: Unable to locate credentials" in capsys.readouterr().err
    assert not store.requests


def test_without_a_driver_the_error_names_it(store, address, tmp_path, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    assert main(["shards", "info", address, f"--cache.folder={tmp_path}"]) == 1
    assert f'{address}/manifest.json: needs s3fs, which is not installed: pip install s3fs, or "kitsam[s3]"' in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("place", [f"s3://{BUCKET}/nothing", "s3://no-bucket/set"])
def test_where_there_is_no_set_the_error_says_so_at_once(store, tmp_path, place):
    with pytest.raises(OptionError, match=f"no finished shard set in {place}"):
        ShardSet(place, CacheConfig(tmp_path))
    assert len([key for key, _ in store.requests if key.endswith("manifest.json")]) == 1


def test_a_shard_that_is_gone_is_named(store, address, tmp_path):
    remote = ShardSet(address, CacheConfig(tmp_path))
    with pytest.raises(ShardError, match=f"^{address}/train/gone.tar: no such file$"):
        remote.source.open("train/gone.tar", "0" * 64)
    assert store.count("set/train/gone.tar") <= 1


@settings(max_examples=8, deadline=None)
@given(
    st.dictionaries(
        st.integers(0, 99), st.lists(st.sampled_from([500, 503, "cut", "hang up", "garbage", "short"]), max_size=7)
    ),
    st.sampled_from([0, 5]),
)
def test_whatever_fails_batches_are_right_or_an_error_names_what_failed(
    server, shards, tmp_path_factory, faults, ahead
):
    cache = tmp_path_factory.mktemp("cache")
    train = ShardSet(shards).manifest.train
    names = [f"set/{entry.name}" for entry in train]
    names += [name.replace(".tar", ".json") for name in names]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)
        patch.setattr(download, "FIRST_DELAY", 0.001)
        s3fs.S3FileSystem.clear_instance_cache()
        server.faults = {names[number % len(names)]: list(kinds) for number, kinds in faults.items()}
        remote = ShardSet(f"s3://{BUCKET}/set", CacheConfig(cache, ahead=ahead))
        try:
            assert_same(read_all(ShardSet(shards)), read_all(remote, fetch_ahead=ahead))
        except ShardError as error:
            assert str(error).startswith(f"s3://{BUCKET}/set/train/") and "tried 5 times" in str(error)
        server.faults = {}
        wait_until(lambda: not list(cache.glob(".tmp-*")))
    assert_nothing_wrong_in(cache, shards)


class TestHeadStart:
    def test_the_first_batches_wait_for_no_tar(self, store, address, shards, tmp_path):
        store.holds = is_begin_of_tar
        remote = ShardSet(address, CacheConfig(tmp_path))
        assert_same(read_all(ShardSet(shards)), read_all(remote, fetch_ahead=3))
        assert store.held and not list(tmp_path.glob("*.tar"))

    def test_a_process_that_fetches_no_tars_has_one_too(self, store, address, shards, tmp_path):
        store.holds = is_begin_of_tar
        remote = ShardSet(address, CacheConfig(tmp_path))
        assert_same(read_all(ShardSet(shards), rank=1, ranks=2), read_all(remote, rank=1, ranks=2, fetch_ahead=0))
        assert not store.held

    @pytest.mark.parametrize("fault", FAULTS)
    def test_a_sample_that_comes_wrong_waits_for_its_tar(self, store, patience, address, shards, tmp_path, fault):
        remote = ShardSet(address, CacheConfig(tmp_path))
        for entry in remote.manifest.train:
            remote.index(entry)
            store.faults[f"set/{entry.name}"] = [fault] * (2 if fault == "hang up" else 1)
        assert_same(read_all(ShardSet(shards), 2), read_all(remote, 2, workers=0))
        assert list(tmp_path.glob("*.tar"))
        assert_nothing_wrong_in(tmp_path, shards)

    def test_it_ends_where_a_server_gives_no_samples(self, store, address, tmp_path):
        remote = ShardSet(address, CacheConfig(tmp_path))
        for entry in remote.manifest.train:
            remote.index(entry)
        order = remote.order("natural", 8, 0, STRATA)
        name = remote.manifest.train[order.batch(0)[0].shard].name
        store.faults[f"set/{name}"] = [403]
        remote.read(order.batch(0))
        assert remote.source.head_start.left == 0

    def test_it_ends_with_its_bytes(self, store, address, shards, tmp_path, monkeypatch):
        whole = ShardSet(shards)
        first = whole.order("natural", 8, 0, STRATA).batch(0)
        entries = [whole.index(whole.manifest.train[one.shard]).samples[one.sample] for one in first]
        size = sum(sum(entry.mask) - entry.embedding for entry in entries)
        for allowed, tars in ((size, 0), (size - 1, len({one.shard for one in first}))):
            monkeypatch.setattr("kitsam.shards.source.HEAD_START", allowed)
            cache = tmp_path / str(allowed)
            assert_same(read_all(whole, 1), read_all(ShardSet(address, CacheConfig(cache)), 1, workers=0))
            assert len(list(cache.glob("*.tar"))) == tars

    def test_what_was_opened_leaves_no_file(self, store, address, tmp_path):
        remote = ShardSet(address, CacheConfig(tmp_path))
        read_all(remote, 3)
        assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".lock"}

    def test_samples_without_checksums_wait_for_their_tars(self, tmp_path):
        from contextlib import ExitStack

        from kitsam.shards.index import SampleEntry

        entry = SampleEntry("k", "c", 0, 0, (1, 0, 0, 0), 512, (600, 10), (700, 10))
        start = head_start.HeadStart("s3://nowhere", tmp_path, GIB)
        with ExitStack() as stack:
            assert start.open({None: [entry]}, stack) == {}
        assert start.left == GIB


class TestFetches:
    @pytest.mark.parametrize("count", [1, 3])
    def test_several_tars_are_on_their_way_at_once(self, store, address, tmp_path, count):
        store.holds = is_begin_of_tar
        remote = ShardSet(address, CacheConfig(tmp_path, fetches=count))
        read_all(remote, fetch_ahead=6)
        wait_until(lambda: len(store.held) == count)
        time.sleep(0.1)
        assert len(store.held) == count

    def test_a_run_that_ends_waits_for_none_and_leaves_none(self, store, address, tmp_path):
        store.holds = is_begin_of_tar
        remote = ShardSet(address, CacheConfig(tmp_path))
        began = time.monotonic()
        read_all(remote, 2, fetch_ahead=20)
        assert time.monotonic() - began < 20
        store.release.set()
        wait_until(lambda: not any(thread.name == "fetch" for thread in threading.enumerate()))
        assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".lock"}

    def test_no_more_is_fetched_ahead_than_the_cache_holds(self, store, address, shards, tmp_path):
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

    def test_processes_that_share_a_cache_fetch_each_tar_once(self, store, address, shards, tmp_path):
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
