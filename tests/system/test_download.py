"""Downloads over http, through a driver of fsspec, through a tool: what those of weights and shards do not show."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time

import fsspec
import pytest
from shards.serving import serve

from kitsam.system import download as downloads
from kitsam.system import transfer
from kitsam.system.download import Damage, DownloadError, download, is_address
from kitsam.system.drivers import Span
from kitsam.system.errors import KitsamError

CONTENT = os.urandom(3_000_000)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(downloads, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(transfer, "STALLED", 0.3)


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "x").write_bytes(CONTENT)
    with serve(folder) as server:
        yield server


@pytest.fixture
def path(tmp_path):
    return tmp_path / "here" / "x"


def right(part) -> None:
    if part.read_bytes() != CONTENT:
        raise Damage("wrong bytes")


def test_one_request_brings_a_file_and_nothing_else(server, path):
    download(f"{server.address}/x", path, right)
    assert path.read_bytes() == CONTENT
    assert server.methods == {"GET": 1}
    assert [file.name for file in path.parent.iterdir()] == ["x"]


@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_what_breaks_or_stalls_goes_on_where_it_was(server, path, fault):
    server.faults["x"] = [fault]
    began = time.monotonic()
    download(f"{server.address}/x", path, right)
    assert path.read_bytes() == CONTENT
    assert server.ranges["x"] == [None, f"bytes={len(CONTENT) // 2}-"]
    assert time.monotonic() - began < 5


def test_a_server_that_answers_nothing_is_noticed(path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        with pytest.raises(DownloadError, match=f"^{address}: no byte for 0.3 s .*tried {downloads.TRIES} times"):
            download(address, path, right)


def test_a_file_cut_short_without_its_length_is_noticed_by_the_size(server, path):
    server.faults["x"] = ["unsized"]
    download(f"{server.address}/x", path, right, size=len(CONTENT))
    assert path.read_bytes() == CONTENT
    assert server.ranges["x"][1] == f"bytes={len(CONTENT) // 2}-"


def test_pieces_of_two_versions_are_fetched_anew_in_one_piece(server, path):
    path.parent.mkdir()
    path.with_name("x.part").write_bytes(b"old" * 1000)

    def check(part):
        if part.read_bytes() != CONTENT:
            raise KitsamError("of no use")

    download(f"{server.address}/x", path, check, resumable=True)
    assert path.read_bytes() == CONTENT
    assert server.ranges["x"] == ["bytes=3000-", None]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_what_cannot_get_better_is_not_tried_again(server, path, status):
    server.faults["x"] = [status]
    with pytest.raises(DownloadError, match=f"^{server.address}/x: HTTP {status} [^\n]*$"):
        download(f"{server.address}/x", path, right)
    assert server.ranges["x"] == [None]
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_what_may_pass_is_tried_again(server, path, status):
    server.faults["x"] = [status]
    download(f"{server.address}/x", path, right)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("address", ["http://", "http://host:port/x", "http:///x", "https://[::1/x"])
def test_a_bad_address_is_one_line_at_once(path, address, capsys):
    with pytest.raises(DownloadError) as error:
        download(address, path, right)
    assert str(error.value).startswith(f"{address}: ") and "\n" not in str(error.value)
    assert "trying again" not in capsys.readouterr().err


def test_a_signed_address_reaches_the_server_as_it_is(server, path):
    with pytest.raises(DownloadError, match="HTTP 404"):
        download(f"{server.address}/y%2Fz?signature=a%2Fb%2Bc%3D", path, right)
    assert list(server.requests) == ["y%2Fz?signature=a%2Fb%2Bc%3D"]


def test_a_part_is_kept_only_where_a_checksum_makes_it_sure(server, path):
    for resumable in (True, False):
        server.faults["x"] = ["cut", *["stuck"] * 9]
        with pytest.raises(DownloadError, match="closed after 1500000 of 3000000 bytes"):
            download(f"{server.address}/x", path, right, resumable=resumable)
        assert path.with_name("x.part").exists() == resumable


def test_a_full_disk_is_no_trouble_of_the_network(server, path):
    path.parent.mkdir()
    path.with_name("x.part").symlink_to("/dev/full")
    with pytest.raises(KitsamError, match=r"x\.part: cannot be written: No space left"):
        download(f"{server.address}/x", path, right, resumable=True)
    assert server.ranges["x"] == [None]


def test_a_proxy_of_the_environment_is_used(server, path, monkeypatch):
    monkeypatch.setenv("http_proxy", server.address)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(DownloadError, match="HTTP 404"):
        download("http://nowhere.invalid/x", path, right)
    assert list(server.requests) == ["http://nowhere.invalid/x"]


def test_nothing_of_a_download_stays_open(server, path):
    descriptors = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        server.faults["x"] = ["cut"] * (number % 2)
        download(f"{server.address}/x", path, right)
    gc.collect()
    time.sleep(0.05)
    # One loop of fsspec's, and what the server has not closed yet.
    assert len(os.listdir("/proc/self/fd")) < descriptors + 15


def test_several_threads_download_at_once(server, path):
    paths = [path.with_name(f"x{number}") for number in range(6)]
    server.faults["x"] = ["cut"] * 3
    threads = [threading.Thread(target=download, args=(f"{server.address}/x", one, right)) for one in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one.read_bytes() == CONTENT for one in paths)


def test_an_interrupted_download_ends_with_its_connection_and_keeps_what_came(server, path):
    server.faults["x"] = ["stall"]
    code = """
import sys
from pathlib import Path
from kitsam.system.download import download
try:
    download(sys.argv[1], Path(sys.argv[2]), print, resumable=True)
except KeyboardInterrupt:
    sys.exit(130)
"""
    command = [sys.executable, "-X", "dev", "-c", code, f"{server.address}/x", path]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        part, until = path.with_name("x.part"), time.monotonic() + 60
        while not (part.exists() and part.stat().st_size == len(CONTENT) // 2) and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr.read() == ""
    download(f"{server.address}/x", path, right, resumable=True)
    assert server.ranges["x"] == [None, f"bytes={len(CONTENT) // 2}-"]


class TestDrivers:
    @pytest.fixture
    def address(self):
        with fsspec.open("memory://kitsam/x", "wb") as file:
            file.write(CONTENT)
        yield "memory://kitsam/x"
        fsspec.filesystem("memory").rm("/kitsam", recursive=True)

    def test_an_address_goes_through_its_driver(self, address, path):
        download(address, path, right)
        assert path.read_bytes() == CONTENT

    def test_a_driver_goes_on_where_the_part_ends(self, address, path, monkeypatch):
        path.parent.mkdir()
        path.with_name("x.part").write_bytes(CONTENT[:1000])
        offsets = []
        seek = fsspec.implementations.memory.MemoryFile.seek

        def seeking(file, offset, *rest):
            offsets.append(offset)
            return seek(file, offset, *rest)

        monkeypatch.setattr(fsspec.implementations.memory.MemoryFile, "seek", seeking)
        download(address, path, right, resumable=True)
        assert path.read_bytes() == CONTENT and 1000 in offsets

    def test_one_without_asyncio_gives_no_spans(self, address):
        (trouble,) = transfer.read_spans([Span(address, 0, 10)])
        assert "whole files only" in str(trouble) and not trouble.may_pass

    def test_a_missing_file_is_one_line_at_once(self, address, path, capsys):
        with pytest.raises(DownloadError, match=f"^{address}y: [^\n]+$"):
            download(f"{address}y", path, right)
        assert "trying again" not in capsys.readouterr().err

    def test_an_error_of_a_drivers_own_kind_is_tried_again(self, address, path, monkeypatch):
        class Strange(Exception):
            pass

        opened = fsspec.implementations.memory.MemoryFileSystem._open
        errors = [Strange("half of the\ncloud is away")]

        def failing(*arguments, **options):
            if errors:
                raise errors.pop()
            return opened(*arguments, **options)

        monkeypatch.setattr(fsspec.implementations.memory.MemoryFileSystem, "_open", failing)
        download(address, path, right)
        assert path.read_bytes() == CONTENT

    @pytest.mark.parametrize(
        ("address", "reason"),
        [
            ("s3://bucket/x", 'needs s3fs, which is not installed: pip install s3fs, or "kitsam\\[s3\\]"'),
            ("gs://bucket/x", 'needs gcsfs, which is not installed: pip install gcsfs, or "kitsam\\[gcs\\]"'),
            ("nonsense://x", "no driver and no tool for such an address"),
        ],
    )
    def test_an_address_that_nothing_here_knows_is_one_line_that_helps(
        self, path, address, reason, capsys, monkeypatch
    ):
        for scheme in ("s3", "gs"):
            monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, scheme, raising=False)
        for package in ("s3fs", "gcsfs"):
            monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.setenv("PATH", "")  # nor is there a gsutil
        with pytest.raises(DownloadError, match=f"^{address}: {reason}$"):
            download(address, path, right)
        assert "trying again" not in capsys.readouterr().err


class TestTools:
    def test_a_tool_that_stalls_fails_or_is_missing_is_named(self, path):
        for command, reason in (
            ("sleep 9", "no byte for 0.3 s"),
            ("exit 3", "exit code 3"),
            ("no-such-tool", "code 127"),
        ):
            with pytest.raises(DownloadError, match=f"^pipe:{command}: .*{reason}"):
                download(f"pipe:{command}", path, right)

    def test_a_short_file_of_a_tool_that_fails_is_not_taken(self, server, path):
        source = server.folder / "x"
        with pytest.raises(DownloadError, match="exit code 1"):
            download(f"pipe:head -c 5000 {source}; exit 1", path, lambda part: None)
        assert list(path.parent.iterdir()) == []
        download(f"pipe:cat {source}", path, right)
        assert path.read_bytes() == CONTENT


def test_an_address_is_told_from_a_folder():
    assert all(map(is_address, ["http://a/b", "s3://a/b", "pipe:cat x"]))
    assert not any(map(is_address, ["a/b", "/a/b", "C:\\a"]))
