"""A web server on this machine that hands out a folder, and misbehaves as asked."""

import http.server
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path


class Server:
    """`faults`: for a file's name, what to do wrong on its first requests, one entry each: "stall", "cut", "error", "garbage"."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.faults: dict[str, list[str]] = {}
        self.requests: Counter[str] = Counter()
        self.stop = threading.Event()
        self.address = ""


class _Handler(http.server.BaseHTTPRequestHandler):
    def __init__(self, *arguments, server_state: Server) -> None:
        self.state = server_state
        super().__init__(*arguments)

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        self.state.requests[name] += 1
        faults = self.state.faults.get(name) or [""]
        fault = faults.pop(0)
        path = self.state.folder / name
        if fault == "error":
            self.send_error(500)
        elif not path.is_file():
            self.send_error(404)
        else:
            self._send(path.read_bytes(), fault)

    def _send(self, data: bytes, fault: str) -> None:
        if fault == "garbage":
            data = data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if fault in ("stall", "cut") else data)
        if fault == "stall":
            self.wfile.flush()
            self.state.stop.wait(20)

    def log_message(self, *arguments) -> None:
        pass


@contextmanager
def serve(folder: Path) -> Iterator[Server]:
    state = Server(folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, server_state=state))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield state
    finally:
        state.stop.set()
        server.shutdown()
        server.server_close()
