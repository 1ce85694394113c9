"""Shards from an S3 server that fails in each way that a store can, on the first try and for ever."""

import sys

import pytest
import s3fs
from hypothesis import given, settings
from hypothesis import strategies as st
from shards.object_store import BUCKET, ERRORS
from store_reading import FAULTS, assert_nothing_wrong_in, assert_same, read_all, wait_until

from kitsam.cli import main
from kitsam.shards.config import CacheConfig
from kitsam.shards.reader import ShardSet
from kitsam.system import download
from kitsam.system.errors import OptionError, ShardError


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
