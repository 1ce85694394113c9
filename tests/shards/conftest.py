import threading

import fsspec
import pytest
from shards.object_store import BUCKET, object_store, use_store
from store_reading import wait_until


@pytest.fixture(scope="module")
def server(shards):
    with object_store() as store:
        store.put(shards, "set")
        yield store


@pytest.fixture
def store(server, monkeypatch):
    use_store(server, monkeypatch)
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
