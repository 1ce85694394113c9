"""A session on a tilted scan with its axes turned about, as an address of the page has it."""

from pathlib import Path

import pytest
from scans import bright_model, write_scan

from kitsam.view.config import ViewConfig
from kitsam.view.serve import open_session
from kitsam.view.session import Session


@pytest.fixture(params=[("PSR", 0), ("LAI", 12)], ids=["turned", "tilted"])
def scan(request, tmp_path) -> Path:
    return write_scan(tmp_path, *request.param)


@pytest.fixture
def session(scan, monkeypatch) -> Session:
    monkeypatch.setattr("kitsam.view.serve.load_model", lambda name, device: bright_model())
    return open_session(ViewConfig(scan, model="lite_medsam"))
