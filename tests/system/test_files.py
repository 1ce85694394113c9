import os
import subprocess

import pytest

from kitsam.system.errors import KitsamError
from kitsam.system.files import complete_or_absent, read_json, write_json


def test_a_file_appears_when_the_block_ends_and_not_before(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with complete_or_absent(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists() and temporary.suffix == ".txt"
    assert path.read_text() == "whole" and list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), complete_or_absent(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB; skipped where it may not be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_an_error_that_names_the_file_and_leaves_nothing(small_disk):
    full = pytest.raises(KitsamError, match=r"big\.bin: cannot be written: No space left")
    with full, complete_or_absent(small_disk / "big.bin") as temporary:
        temporary.write_bytes(os.urandom(1 << 20))
    assert list(small_disk.iterdir()) == []


def test_embedding_to_a_full_disk_is_one_line_and_leaves_no_half_shard(small_disk, data, monkeypatch):
    from tiny import embed_config

    from kitsam.embedding import run as embedding

    # The check before the start would refuse at once; a disk may also fill up later.
    monkeypatch.setattr(embedding, "check_disk", lambda out, needed: None)
    with pytest.raises(KitsamError, match="No space left"):
        embedding.run(embed_config(data, small_disk / "set"))
    assert not list(small_disk.rglob("*.tar")) and not list(small_disk.rglob(".tmp*"))


def test_what_is_no_json_is_named(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("{")
    with pytest.raises(KitsamError, match="a.json: cannot be read as JSON"):
        read_json(path)
    write_json(path, {"b": 1, "a": "ü"})
    assert read_json(path) == {"b": 1, "a": "ü"} and list(read_json(path)) == ["b", "a"]
