"""Shards from an address: a server that stalls, cuts, fails and changes bytes; a cache that is too small."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from resealing import replace_in_sealed
from shards.serving import serve
from tiny import train_config

from kitsam.cli import main
from kitsam.ct.strata import STRATA
from kitsam.shards.batches import batches
from kitsam.shards.config import CacheConfig
from kitsam.shards.reader import ShardSet
from kitsam.system import download, transfer
from kitsam.system.errors import OptionError, ShardError

GIB = 2**30


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(download, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(transfer, "STALLED", 0.5)


@pytest.fixture
def server(shards):
    with serve(shards) as state:
        yield state


def read_all(shards: ShardSet, steps: int = 6, **options) -> list[np.ndarray]:
    order = shards.order("natural", 8, 0, STRATA)
    return list(batches(shards, order, range(steps), lambda _, samples: samples.stored.clone().numpy(), **options))


def test_the_same_batches_come_from_an_address_and_from_the_folder(server, shards, tmp_path):
    remote = ShardSet(server.address, CacheConfig(tmp_path))
    for here, there in zip(read_all(ShardSet(shards)), read_all(remote, fetch_ahead=3)):
        assert np.array_equal(here, there)
    entry = remote.manifest.val[0]
    local = ShardSet(shards).validation_slices(entry, 0, 3)
    assert torch.equal(remote.validation_slices(entry, 0, 3).stored, local.stored)


def test_each_shard_is_fetched_once(server, tmp_path):
    for _ in range(2):
        read_all(ShardSet(server.address, CacheConfig(tmp_path, ahead=0)), steps=20, fetch_ahead=5)
    tars = {name: count for name, count in server.requests.items() if name.endswith(".tar")}
    assert tars and set(tars.values()) == {1}


@pytest.mark.parametrize("faults", [["stall"], ["cut", 500], ["garbage"], [500, 500, "cut"]])
def test_trouble_that_passes_is_overcome(server, shards, tmp_path, faults):
    for entry in ShardSet(shards).manifest.train:
        server.faults[entry.name] = list(faults)
    server.faults["manifest.json"] = ["cut"]
    remote = ShardSet(server.address, CacheConfig(tmp_path, ahead=0))
    for here, there in zip(read_all(ShardSet(shards)), read_all(remote)):
        assert np.array_equal(here, there)
    assert max(server.requests.values()) == len(faults) + 1


def test_what_is_read_once_leaves_nothing_in_the_cache(server, tmp_path):
    """Neither this process's copy of the manifest nor that of one that was killed; one at work keeps its own."""
    folder = tmp_path / "cache"
    source = ShardSet(server.address, CacheConfig(folder)).source
    assert list(folder.iterdir()) == []
    with source.small_file("manifest.json") as path, source.small_file("splits.json") as other:
        assert path.read_bytes() == (server.folder / "manifest.json").read_bytes()
        assert len(list(folder.iterdir())) == 2 and other.exists()
        code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
        killed = subprocess.Popen([sys.executable, "-c", code])
        killed.wait()
        left = path.with_name(path.name.replace(f"-{os.getpid()}-", f"-{killed.pid}-", 1))
        left.write_bytes(b"half")
        ShardSet(server.address, CacheConfig(folder))
        assert not left.exists() and path.exists()
    assert list(folder.iterdir()) == []


def test_a_folder_keeps_what_is_read_from_it(shards):
    with ShardSet(shards).source.small_file("manifest.json") as path:
        assert path == shards / "manifest.json"
    assert path.exists()


def test_an_error_in_a_manifest_from_an_address_names_the_address(server, shards, tmp_path):
    server.faults["manifest.json"] = ["garbage"]
    with pytest.raises(ShardError, match=f"^{server.address}/manifest.json: "):
        ShardSet(server.address, CacheConfig(tmp_path))


def test_info_reads_a_set_at_an_address_through_the_cache_it_is_given(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KITSAM_CACHE", str(tmp_path / "usual"))
    assert main(["shards", "info", server.address, f"--cache.folder={tmp_path / 'own'}"]) == 0
    assert "Shard set" in capsys.readouterr().out
    assert (tmp_path / "own").is_dir() and not (tmp_path / "usual").exists()


def test_verify_refuses_an_address_before_it_fetches_anything(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KITSAM_CACHE", str(tmp_path / "usual"))
    assert main(["shards", "verify", server.address]) == 2
    assert "verify wants a folder" in capsys.readouterr().err and not server.requests


@pytest.mark.parametrize("fault", ["garbage", 500, "cut", "shifted", "whole"])
def test_a_sample_that_does_not_come_by_itself_comes_with_its_tar(server, shards, tmp_path, fault):
    remote = ShardSet(server.address, CacheConfig(tmp_path))
    for entry in remote.manifest.train:
        server.faults[entry.name] = [fault]
    for here, there in zip(read_all(ShardSet(shards), 2), read_all(remote, 2, workers=0)):
        assert np.array_equal(here, there)
    assert list(tmp_path.glob("*.tar"))
    # A server that does not send what is asked for is not asked for samples again.
    assert (remote.source.head_start.left == 0) == (fault in ("shifted", "whole"))


@pytest.mark.parametrize("fault", ["garbage", 500, "cut"])
def test_a_shard_that_stays_bad_is_an_error_that_names_it(server, shards, tmp_path, fault):
    name = ShardSet(shards).manifest.train[0].name
    server.faults[name] = [fault] * 100
    with pytest.raises(ShardError, match=f"{server.address}/{name}: .*tried 5 times"):
        read_all(ShardSet(server.address, CacheConfig(tmp_path)), steps=30)
    assert not list(tmp_path.glob("*.part"))


def test_what_is_gone_is_not_asked_for_again(server, shards, tmp_path):
    with pytest.raises(OptionError, match="no finished shard set"):
        ShardSet(f"{server.address}/nothing", CacheConfig(tmp_path))
    assert server.requests["nothing/manifest.json"] == 1


def test_the_cache_stays_within_its_bound_and_the_batches_right(server, shards, tmp_path):
    manifest = ShardSet(shards).manifest
    bound = 2 * max(entry.bytes for entry in manifest.train)
    remote = ShardSet(server.address, CacheConfig(tmp_path, size=bound / GIB, ahead=0))
    for here, there in zip(read_all(ShardSet(shards), 12), read_all(remote, 12, workers=1)):
        assert np.array_equal(here, there)
        assert sum(path.stat().st_size for path in tmp_path.glob("*.tar")) <= bound
    assert max(server.requests[entry.name] for entry in manifest.train) > 1


def test_what_was_used_longest_ago_goes_first(server, shards, tmp_path):
    first, second, third = ShardSet(shards).manifest.train[:3]
    bound = first.bytes + second.bytes + third.bytes - 1
    source = ShardSet(server.address, CacheConfig(tmp_path, size=bound / GIB)).source
    for entry in (first, second, first, third):
        source.open(entry.name, entry.sha256).close()
    assert {path.stem for path in tmp_path.glob("*.tar")} >= {first.sha256, third.sha256}
    assert not (tmp_path / f"{second.sha256}.tar").exists()


def test_a_damaged_index_is_fetched_again(server, shards, tmp_path):
    entry = ShardSet(shards).manifest.train[0]
    index = entry.name.replace(".tar", ".json")
    server.faults[index] = ["cut"]
    assert len(ShardSet(server.address, CacheConfig(tmp_path)).index(entry).samples) == entry.samples
    assert server.requests[index] == 2


@pytest.mark.parametrize("command", ["cat {}", "sleep 5; cat {}", "head -c 5000 {}; exit 1"])
def test_a_tool_brings_the_same_batches_or_its_failure_is_named(shards, tmp_path, command):
    address = "pipe:" + command.format(shards)
    if command.startswith("cat"):
        remote = ShardSet(address, CacheConfig(tmp_path))
        assert all(np.array_equal(*pair) for pair in zip(read_all(ShardSet(shards)), read_all(remote)))
    else:
        reason = "no byte for 0.5 s" if command.startswith("sleep") else "no finished shard set"
        with pytest.raises((ShardError, OptionError), match=reason):
            ShardSet(address, CacheConfig(tmp_path))


def test_several_processes_share_one_cache(server, tmp_path):
    code = """
import sys
from pathlib import Path
from kitsam.shards.config import CacheConfig
from kitsam.shards.reader import ShardSet
shards = ShardSet(sys.argv[1], CacheConfig(Path(sys.argv[2])))
for entry in shards.manifest.train:
    shards.source.open(entry.name, entry.sha256).close()
"""
    started = [subprocess.Popen([sys.executable, "-c", code, server.address, str(tmp_path)]) for _ in range(3)]
    assert [process.wait(60) for process in started] == [0, 0, 0]
    assert {count for name, count in server.requests.items() if name.endswith(".tar")} == {1}


def test_names_that_lead_elsewhere_are_refused(shards, tmp_path):
    copy = tmp_path / "set"
    shutil.copytree(shards, copy)
    name = ShardSet(shards).manifest.train[0].name
    for stray in ("../../secret.tar", "train/x.tar; rm y.tar"):
        shutil.copy(shards / "manifest.json", copy)
        replace_in_sealed(copy / "manifest.json", name, stray)
        with pytest.raises(ShardError, match="not the name of a shard"):
            ShardSet(copy)


def test_training_from_an_address_gives_the_same_decoder(server, runs, tmp_path):
    from kitsam.training import loop

    config = train_config("roi", server.address, tmp_path / "run", cache=CacheConfig(tmp_path / "cache"))
    assert loop.run(config) == 0
    assert (tmp_path / "run" / "decoder.safetensors").read_bytes() == (runs["roi"] / "decoder.safetensors").read_bytes()
