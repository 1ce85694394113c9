"""The cache of checkpoints, against a server on this machine that misbehaves as told."""

import errno
import hashlib
import os
import threading
from pathlib import Path

import pytest
import torch
from shards.serving import serve

from kitsam.sam.checkpoints import CHECKPOINTS, Checkpoint, checkpoint_path
from kitsam.sam.config import WeightsConfig
from kitsam.sam.weights import run
from kitsam.system import download, transfer
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.files import cache_folder

CONTENT = bytes(range(256)) * 4000  # a megabyte: more than one block
NAME = "sam.pth"
PUBLISHED = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(tmp_path):
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / NAME).write_bytes(CONTENT)
    with serve(tmp_path / "served") as server:
        yield server


@pytest.fixture
def url(server) -> str:
    return f"{server.address}/{NAME}"


@pytest.fixture
def cache(tmp_path, monkeypatch, url) -> Path:
    """An empty cache, whose official vit_b is the server's megabyte."""
    monkeypatch.setenv("KITSAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setitem(CHECKPOINTS, "vit_b", Checkpoint(NAME, url, len(CONTENT), PUBLISHED))
    monkeypatch.setattr(download, "FIRST_DELAY", 0.001)
    return tmp_path / "cache"


@pytest.fixture
def medsam(tmp_path) -> Path:
    torch.save({"weight": torch.arange(4.0)}, tmp_path / "downloads.pth")
    return tmp_path / "downloads.pth"


def _visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_checkpoint_is_downloaded_once_and_then_found(cache, server, capsys):
    assert run(WeightsConfig("vit_b")) == 0
    assert run(WeightsConfig("vit_b")) == 0
    assert checkpoint_path("vit_b").read_bytes() == CONTENT
    assert _visible(cache) == ["sam.pth"]
    assert server.ranges[NAME] == [None]
    first, second = capsys.readouterr().out.splitlines()
    assert str(cache / "sam.pth") in first and "in the cache already" in second


def test_a_download_cut_twice_goes_on_where_it_broke(cache, server):
    server.faults[NAME] = ["cut", "cut"]
    run(WeightsConfig("vit_b"))
    half = len(CONTENT) // 2
    assert server.ranges[NAME] == [None, f"bytes={half}-", f"bytes={half + half // 2}-"]
    assert checkpoint_path("vit_b").read_bytes() == CONTENT


def test_a_later_run_goes_on_with_what_an_earlier_one_left(cache, server):
    cache.mkdir()
    (cache / "sam.pth.part").write_bytes(CONTENT[:1000])
    run(WeightsConfig("vit_b"))
    assert server.ranges[NAME] == ["bytes=1000-"]
    assert checkpoint_path("vit_b").read_bytes() == CONTENT


@pytest.mark.parametrize("left", [CONTENT, CONTENT[::-1], CONTENT + b"more"], ids=["whole", "wrong", "longer"])
def test_a_part_past_which_nothing_is_left_is_taken_if_right_and_fetched_anew_if_not(cache, server, left):
    cache.mkdir()
    (cache / "sam.pth.part").write_bytes(left)
    run(WeightsConfig("vit_b"))
    assert server.ranges[NAME] == [f"bytes={len(left)}-"] + [None] * (left != CONTENT)
    assert checkpoint_path("vit_b").read_bytes() == CONTENT


def test_a_server_in_trouble_is_asked_again(cache, server):
    server.faults[NAME] = [500, 503]
    run(WeightsConfig("vit_b"))
    assert len(server.ranges[NAME]) == 3
    assert checkpoint_path("vit_b").read_bytes() == CONTENT


@pytest.mark.parametrize("trouble", ["whole", "shifted"])
def test_a_server_that_does_not_send_the_range_asked_for_starts_over(cache, server, trouble):
    server.faults[NAME] = ["cut", trouble]
    run(WeightsConfig("vit_b"))
    assert server.ranges[NAME][1] == f"bytes={len(CONTENT) // 2}-"
    assert checkpoint_path("vit_b").read_bytes() == CONTENT


def test_a_server_that_fails_for_good_is_given_up_with_its_address(cache, server, url):
    server.faults[NAME] = [502] * 50
    with pytest.raises(KitsamError, match=f"{url}: HTTP 502"):
        run(WeightsConfig("vit_b"))
    assert len(server.ranges[NAME]) == download.TRIES


@pytest.mark.parametrize(("trouble", "reason"), [("stuck", "after 512000 of 1024000"), ("shifted", "another range")])
def test_a_server_that_breaks_in_the_same_way_each_time_is_given_up(cache, server, trouble, reason):
    server.faults[NAME] = ["cut"] + [trouble] * 50
    with pytest.raises(KitsamError, match=reason):
        run(WeightsConfig("vit_b"))
    assert len(server.ranges[NAME]) == 1 + download.TRIES


def test_an_address_without_the_file_is_an_error_at_once(cache, server, url):
    server.faults[NAME] = [404]
    with pytest.raises(KitsamError, match=f"{url}: HTTP 404"):
        run(WeightsConfig("vit_b"))
    assert len(server.ranges[NAME]) == 1


def test_a_port_where_nobody_listens_is_an_error_naming_the_address(cache, tmp_path):
    with serve(tmp_path) as closed:
        pass
    with pytest.raises(KitsamError, match=closed.address):
        run(WeightsConfig("vit_b", closed.address))


def test_a_wrong_checksum_leaves_nothing(cache, server, url):
    (server.folder / NAME).write_bytes(CONTENT[::-1])
    found = hashlib.sha256(CONTENT[::-1]).hexdigest()
    with pytest.raises(KitsamError, match=f"{url}: expected SHA-256 {PUBLISHED}, found {found}"):
        run(WeightsConfig("vit_b"))
    assert _visible(cache) == []


def test_a_damaged_file_of_the_cache_is_refused_and_then_replaced(cache):
    run(WeightsConfig("vit_b"))
    (cache / "sam.pth").write_bytes(CONTENT[:-1])
    with pytest.raises(KitsamError, match=r'sam.pth: expected SHA-256 .*"kitsam weights vit_b"'):
        checkpoint_path("vit_b")
    run(WeightsConfig("vit_b"))
    assert checkpoint_path("vit_b").read_bytes() == CONTENT


def test_a_full_disk_is_an_error_naming_the_file(cache, monkeypatch):
    class FullDisk:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def write(self, block):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(transfer, "_open", lambda part, mode: FullDisk())
    with pytest.raises(KitsamError, match=r"sam.pth.part: cannot be written: No space left"):
        run(WeightsConfig("vit_b"))
    assert _visible(cache) == []


def test_two_at_once_download_once(cache, server):
    results = []
    threads = [threading.Thread(target=lambda: results.append(run(WeightsConfig("vit_b")))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [0, 0]
    assert server.ranges[NAME] == [None]


def test_a_checkpoint_is_taken_from_a_file(cache, server, tmp_path):
    (tmp_path / "mine.pth").write_bytes(CONTENT)
    run(WeightsConfig("vit_b", str(tmp_path / "mine.pth")))
    assert checkpoint_path("vit_b").read_bytes() == CONTENT
    assert server.ranges[NAME] == []


def test_a_file_that_is_not_the_official_one_is_refused(cache, tmp_path):
    (tmp_path / "mine.pth").write_bytes(b"something else")
    with pytest.raises(KitsamError, match=f"mine.pth: expected SHA-256 {PUBLISHED}"):
        run(WeightsConfig("vit_b", str(tmp_path / "mine.pth")))
    assert _visible(cache) == []
    assert (tmp_path / "mine.pth").exists()


@pytest.mark.parametrize(("name", "source"), [("vit_b", "absent.pth"), ("vit_b", "ftp://host/x"), ("medsam", None)])
def test_a_source_that_cannot_be_used_names_its_option(cache, name, source):
    with pytest.raises(OptionError, match="^--from: "):
        run(WeightsConfig(name, source))


def test_the_checksum_of_medsam_is_recorded_and_a_changed_file_refused(cache, medsam):
    run(WeightsConfig("medsam", str(medsam)))
    path = checkpoint_path("medsam")
    assert path.read_bytes() == medsam.read_bytes()
    record = cache / "medsam_vit_b.pth.sha256"
    assert record.read_text() == f"{hashlib.sha256(medsam.read_bytes()).hexdigest()}  medsam_vit_b.pth\n"

    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(KitsamError, match=r"medsam_vit_b.pth: expected SHA-256 .*--from FILE"):
        checkpoint_path("medsam")
    record.unlink()
    with pytest.raises(KitsamError, match=r"never recorded \(medsam_vit_b.pth.sha256\)"):
        checkpoint_path("medsam")


def test_medsam_is_found_without_its_source_and_replaced_by_another_file(cache, medsam, tmp_path):
    run(WeightsConfig("medsam", str(medsam)))
    assert run(WeightsConfig("medsam")) == 0
    other = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(4)}, other)
    run(WeightsConfig("medsam", str(other)))
    assert checkpoint_path("medsam").read_bytes() == other.read_bytes()


def test_medsam_comes_from_an_address_without_what_another_address_left(cache, server, medsam, url):
    cache.mkdir()
    (cache / "medsam_vit_b.pth.part").write_bytes(b"of another server")
    (server.folder / NAME).write_bytes(medsam.read_bytes())
    server.faults[NAME] = ["cut"]
    run(WeightsConfig("medsam", url))
    assert checkpoint_path("medsam").read_bytes() == medsam.read_bytes()
    assert server.ranges[NAME] == [None, f"bytes={medsam.stat().st_size // 2}-"]


def test_a_web_page_in_place_of_medsam_is_refused(cache, server, url):
    (server.folder / NAME).write_bytes(b"<html>Sign in to download medsam_vit_b.pth</html>")
    with pytest.raises(KitsamError, match=f"^{url}: not a checkpoint"):
        run(WeightsConfig("medsam", url))
    assert _visible(cache) == []


def test_the_users_own_checkpoint_is_used_as_it_is(cache, medsam, tmp_path):
    assert checkpoint_path("vit_b", medsam) == medsam
    with pytest.raises(OptionError, match="^--encoder.checkpoint: .*absent.pth"):
        checkpoint_path("vit_b", tmp_path / "absent.pth")


@pytest.mark.parametrize(("name", "command"), [("vit_b", "weights vit_b"), ("medsam", "weights medsam --from FILE")])
def test_an_absent_checkpoint_names_the_command_that_fetches_it(cache, name, command):
    with pytest.raises(KitsamError, match=f'^{name} is not in the cache: run "kitsam {command}"$'):
        checkpoint_path(name)


def test_the_cache_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KITSAM_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "kitsam"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "kitsam"
    monkeypatch.setenv("KITSAM_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
