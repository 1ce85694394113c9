"""`kitsam view`: a local page to look at a scan and correct its labels.

Scan and model are read before the page opens, so that what is wrong with them is told on the terminal. The server
listens to this machine alone (`guard.py`) until Ctrl-C, which is its usual end; labels that nobody saved are then
saved.
"""

import os
import secrets
import socket
import sys
import webbrowser
from pathlib import Path

import numpy as np
import uvicorn

from kitsam.api import Model, load_model
from kitsam.ct.scan import read_scan
from kitsam.ct.scan_files import Scan, find_files
from kitsam.ct.volume import Volume, check_same_place, check_same_shape, read_label
from kitsam.sam.checkpoints import CHECKPOINTS
from kitsam.system.console import say, warn
from kitsam.system.errors import OptionError
from kitsam.view.app import viewer_app
from kitsam.view.config import ViewConfig
from kitsam.view.guard import guarded
from kitsam.view.session import NO_MODEL, USUAL_MODEL, Session, free_name

HOST = "127.0.0.1"
PATIENCE = 3  # seconds that a request may still take after Ctrl-C


def run(config: ViewConfig) -> int:
    listener = listen(config)
    session = open_session(config)
    token, port = secrets.token_urlsafe(16), listener.getsockname()[1]
    address = f"http://{HOST}:{port}/{token}/"
    say(f"labels will be saved to {session.out}")
    say(f"{session.scan.name} is at {address} (for this machine only; Ctrl-C ends it)")
    if os.environ.get("SSH_CONNECTION"):
        say(f"from your own machine: ssh -L {port}:{HOST}:{port} THIS_MACHINE, then open that address there")
    if not config.no_browser and _has_screen():
        webbrowser.open(address)
    try:
        server(session, token, port).run(sockets=[listener])
    except KeyboardInterrupt:
        pass  # the usual end
    finally:
        session.stop()
        if session.unsaved:
            session.save()
    say("ended")
    return 0


def server(session: Session, token: str, port: int) -> uvicorn.Server:
    """Of the page, below /TOKEN/; it is to be run with a socket that listens at `port`."""
    app = guarded(viewer_app(session), token, port)
    return uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=PATIENCE)
    )


def listen(config: ViewConfig) -> socket.socket:
    try:
        return socket.create_server((HOST, config.port))
    except OSError as error:
        raise OptionError(f"--port: {config.port} cannot be used: {error.strerror}") from error


def _has_screen() -> bool:
    """Without one, Linux would open a browser of the terminal."""
    return sys.platform in ("win32", "darwin") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


def open_session(config: ViewConfig) -> Session:
    """Raises `KitsamError` for a scan, labels or a model that cannot be used."""
    scan = find_files(config.scan, "SCAN")[0]
    volume = read_scan(scan)
    label, doubts = _read_labels(config.labels, volume)
    doubts = [*volume.doubts, *doubts]
    for doubt in doubts:
        warn(doubt)
    return Session(scan, volume, label, _load_model(config), place_to_save(config, scan), doubts)


def _read_labels(path: Path | None, volume: Volume) -> tuple[np.ndarray, tuple[str, ...]]:
    """(S, H, W) uint8 to be changed, and doubts."""
    if path is None:
        return np.zeros(volume.voxels.shape, np.uint8), ()
    label = read_label(path)
    check_same_shape(path, label, volume)
    doubts = check_same_place(path, label.geometry, volume.geometry)
    return label.voxels.copy(), doubts


def _load_model(config: ViewConfig) -> Model | None:
    name = config.model
    if name is None:
        if not CHECKPOINTS[USUAL_MODEL].path.is_file():
            warn(NO_MODEL)
            return None
        name = USUAL_MODEL
    return load_model(name, config.device)


def place_to_save(config: ViewConfig, scan: Scan) -> Path:
    """Absolute; nothing is there yet."""
    if config.out:
        return config.out.absolute()
    folder = (config.labels or scan.path).absolute().parent
    if not os.access(folder, os.W_OK):
        folder = Path.cwd()
    return free_name(folder / f"{scan.name}_labels.nii.gz")
