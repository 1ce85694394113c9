"""Files from an object store in blocks, on a real server for S3."""

import os
import threading
import time

import pytest
from shards.object_store import BUCKET, object_store, use_store

from kitsam.system import drivers
from kitsam.system.download import Damage, download
from kitsam.system.drivers import Span
from kitsam.system.transfer import read_spans
from kitsam.system.trouble import Trouble

BLOCK = 1 << 16
CONTENT = os.urandom(10 * BLOCK + 5)
ADDRESS = f"s3://{BUCKET}/files/x"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for name, content in (("x", CONTENT), ("empty", b""), ("block", CONTENT[:BLOCK])):
        (folder / name).write_bytes(content)
    with object_store() as store:
        store.put(folder, "files")
        yield store


@pytest.fixture
def store(server, monkeypatch):
    use_store(server, monkeypatch)
    monkeypatch.setattr(drivers, "BLOCK", BLOCK)
    server.requests.clear()
    return server


def right(part) -> None:
    if part.read_bytes() != CONTENT:
        raise Damage("wrong bytes")


def test_a_file_comes_in_blocks_each_of_them_once(store, tmp_path):
    download(ADDRESS, tmp_path / "x", right)
    starts = sorted(int(wanted.removeprefix("bytes=").partition("-")[0]) for _, wanted in store.requests)
    assert starts == [*range(0, len(CONTENT), BLOCK)]


@pytest.mark.parametrize(("name", "size"), [("empty", 0), ("block", BLOCK)])
def test_a_file_that_ends_with_a_block_is_complete(store, tmp_path, name, size):
    download(f"s3://{BUCKET}/files/{name}", tmp_path / name, lambda part: None)
    assert (tmp_path / name).read_bytes() == CONTENT[:size]
    assert len(store.requests) == 1


def test_several_blocks_are_on_their_way_at_once(store, tmp_path):
    store.holds = lambda key, wanted: not wanted.startswith("bytes=0-")
    blocks = drivers.driver_blocks(ADDRESS, 0)
    assert next(blocks) == CONTENT[:BLOCK]
    thread = threading.Thread(target=next, args=(blocks,))
    thread.start()
    try:
        until = time.monotonic() + 30
        while len(store.held) < drivers.BLOCKS_AT_ONCE and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.2)
        assert len(store.held) == drivers.BLOCKS_AT_ONCE
    finally:
        store.release.set()
        thread.join()
        blocks.close()
        store.holds = lambda key, wanted: False


@pytest.mark.parametrize("fault", [500, 503, "cut", "short"])
def test_what_breaks_goes_on_with_the_block_that_is_missing(store, tmp_path, fault):
    store.faults["files/x"] = ["", "", fault]
    download(ADDRESS, tmp_path / "x", right)
    assert sum(wanted.startswith("bytes=0-") for _, wanted in store.requests) == 1


def test_each_span_comes_or_says_why_not(store):
    store.faults["files/x"] = [503]
    (refused,) = read_spans([Span(ADDRESS, 7, 100)])
    assert isinstance(refused, Trouble) and refused.may_pass and "reduce your request rate" in str(refused)
    inside, end, absent = read_spans(
        [Span(ADDRESS, BLOCK + 1, 2 * BLOCK), Span(ADDRESS, len(CONTENT) - 3, 9), Span(f"{ADDRESS}y", 0, 9)]
    )
    assert inside == CONTENT[BLOCK + 1 : 3 * BLOCK + 1]
    assert "sent 3 of 9 bytes" in str(end)
    assert absent.absent and not absent.may_pass
