"""A web server on this machine that hands out a folder, and misbehaves as told."""

import http.server
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path


class Server:
    """`faults`: for a file's name, what to do wrong on its first requests, one entry each; afterwards all goes well.

    An entry is an HTTP status to answer with, "cut" (half of what is left, then the connection closes), "stall" (half,
    then silence), "garbage" (a byte is wrong), "whole" (Range is ignored), "stuck" (Range is ignored and half comes),
    "shifted" (another range than the one wanted) or "unsized" (half, of a length that is not told).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.faults: dict[str, list[int | str]] = {}
        self.requests: Counter[str] = Counter()
        self.ranges: defaultdict[str, list[str | None]] = defaultdict(list)
        self.methods: Counter[str] = Counter()
        self.silence = 20.0  # seconds of a stall, then the connection closes
        self.stop = threading.Event()
        self.address = ""


class _Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, *arguments, server_state: Server) -> None:
        self.state = server_state
        super().__init__(*arguments)

    def do_HEAD(self) -> None:
        self.state.methods["HEAD"] += 1
        self.send_error(405)

    def do_GET(self) -> None:
        name, wanted = self.path.lstrip("/"), self.headers["Range"]
        self.state.methods["GET"] += 1
        self.state.requests[name] += 1
        self.state.ranges[name].append(wanted)
        faults = self.state.faults.get(name)
        fault = faults.pop(0) if faults else ""
        path = self.state.folder / name
        if isinstance(fault, int):
            self.send_error(fault)
        elif not path.is_file():
            self.send_error(404)
        else:
            honored = wanted and fault not in ("whole", "stuck")
            first, _, last = wanted.removeprefix("bytes=").partition("-") if honored else ("0", "", "")
            data = path.read_bytes()
            self._send(data[: int(last) + 1] if last else data, int(first) + (fault == "shifted"), fault)

    def _send(self, data: bytes, start: int, fault: str) -> None:
        if start >= len(data) and start:
            self.send_error(416)
            return
        if fault == "garbage":
            data = data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if fault != "unsized":
            self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        half = fault in ("cut", "stall", "stuck", "unsized")
        self.wfile.write(data[start : (start + len(data)) // 2 if half else len(data)])
        if fault == "stall":
            self.wfile.flush()
            self.state.stop.wait(self.state.silence)

    def log_message(self, *arguments) -> None:
        pass


class _Listener(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address) -> None:
        """A client that hangs up early is part of the test."""


@contextmanager
def listening(handler: Callable[..., http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server that has the handler answer, as long as the block runs."""
    listener = _Listener(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.server_address[1]}"
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()


@contextmanager
def serve(folder: Path) -> Iterator[Server]:
    state = Server(folder)
    with listening(partial(_Handler, server_state=state)) as state.address:
        try:
            yield state
        finally:
            state.stop.set()
