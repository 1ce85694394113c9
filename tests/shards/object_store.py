"""An object store on this machine: moto's S3 server, behind a proxy that is as faulty as told."""

import http.client
import http.server
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import boto3
import pytest
import s3fs
from moto.server import ThreadedMotoServer
from shards.serving import listening

from kitsam.system import download

BUCKET = "bucket"
# Status -> code and message, as S3 sends them.
ERRORS = {
    400: ("ExpiredToken", "The provided token has expired."),
    403: ("AccessDenied", "Access Denied"),
    500: ("InternalError", "We encountered an internal error. Please try again."),
    503: ("SlowDown", "Please reduce your request rate."),
}


class ObjectStore:
    """`faults`: for a key, what to do wrong on its first GETs, one entry each; afterwards all goes well.

    An entry is a status of `ERRORS`, "cut" (half of the bytes, then the connection closes), "stall" (half, then
    silence), "hang up" (no answer), "garbage" (a byte is wrong), "short" (half, as if it were all) or "" (nothing).
    `holds`: for a key and a Range, whether the answer waits for `release`.
    """

    def __init__(self, backend: tuple[str, int]) -> None:
        self.backend = backend
        self.faults: dict[str, list[int | str]] = {}
        self.requests: list[tuple[str, str]] = []  # key and Range of each GET
        self.holds: Callable[[str, str], bool] = lambda key, wanted: False
        self.held: list[tuple[str, str]] = []  # key and Range
        self.release = threading.Event()
        self.lock = threading.Lock()
        self.stop = threading.Event()
        self.endpoint = ""

    def count(self, key: str) -> int:
        """GETs of a key."""
        return sum(key == one for one, _ in self.requests)

    def environment(self) -> dict[str, str]:
        """For a process that is to know this store and nothing of the user's own."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def put(self, folder: Path, prefix: str) -> str:
        """Store the files of a folder; their address."""
        client = boto3.client("s3", endpoint_url="http://{}:{}".format(*self.backend), aws_access_key_id="tester",
                              aws_secret_access_key="secret", region_name="us-east-1")  # fmt: skip
        if BUCKET not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
            client.create_bucket(Bucket=BUCKET)
        for path in folder.rglob("*"):
            if path.is_file():
                client.put_object(
                    Bucket=BUCKET, Key=f"{prefix}/{path.relative_to(folder).as_posix()}", Body=path.read_bytes()
                )
        return f"s3://{BUCKET}/{prefix}"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments, store: ObjectStore) -> None:
        self.store = store
        super().__init__(*arguments)

    def do_HEAD(self) -> None:
        self._send(*self._forward())

    def do_GET(self) -> None:
        store, key = self.store, self.path.partition("?")[0].removeprefix(f"/{BUCKET}/")
        wanted = self.headers["Range"] or ""
        with store.lock:
            store.requests.append((key, wanted))
            faults = store.faults.get(key)
            fault = faults.pop(0) if faults else ""
        if store.holds(key, wanted):
            store.held.append((key, wanted))
            store.release.wait()
        self._answer(fault)

    def _answer(self, fault: int | str) -> None:
        if fault == "hang up":
            self.close_connection = True
        elif isinstance(fault, int):
            code, message = ERRORS[fault]
            text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
            self._send(fault, {"Content-Type": "application/xml", "Content-Length": len(text)}, text.encode())
        else:
            status, headers, body = self._forward()
            if fault == "garbage":
                body = body[: len(body) // 2] + bytes([body[len(body) // 2] ^ 1]) + body[len(body) // 2 + 1 :]
            if fault == "short":
                body = body[: len(body) // 2]
                headers["Content-Length"] = len(body)
            half = fault in ("cut", "stall")
            self._send(status, headers, body[: len(body) // 2] if half else body)
            if fault == "stall":
                self.store.stop.wait(20)
            self.close_connection = self.close_connection or half

    def _forward(self) -> tuple[int, dict[str, str | int], bytes]:
        connection = http.client.HTTPConnection(*self.store.backend)
        connection.request(self.command, self.path, headers=dict(self.headers))
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        dropped = ("connection", "transfer-encoding", "server", "date", "content-length")
        headers: dict[str, str | int] = {
            name: value for name, value in answer.getheaders() if name.lower() not in dropped
        }
        headers["Content-Length"] = answer.headers["Content-Length"] or len(body)
        return answer.status, headers, body

    def _send(self, status: int, headers: dict[str, str | int], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments) -> None:
        pass


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    store = ObjectStore(moto.get_host_and_port())
    try:
        with listening(partial(_Handler, store=store)) as store.endpoint:
            try:
                yield store
            finally:
                store.stop.set()
                store.release.set()
    finally:
        moto.stop()


def use_store(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process knows the store and nothing of the user's own, and tries again soon."""
    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(download, "FIRST_DELAY", 0.001)
    s3fs.S3FileSystem.clear_instance_cache()
