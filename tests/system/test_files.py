import os
import subprocess

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
import pytest
import torch

from kitsam.shards.writer import ShardWriter
from kitsam.system.errors import KitsamError
from kitsam.system.files import complete_or_absent, read_json, write_json
from kitsam.system.tensors import write_tensors


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


def write_scan(path):
    with complete_or_absent(path) as temporary:
        nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), temporary)


def write_picture(path):
    with complete_or_absent(path) as temporary:
        plt.figure().savefig(temporary)


def write_shard(path):
    with ShardWriter(path):
        pass


WRITERS = {
    "a.json": lambda path: write_json(path, {}),
    "a.safetensors": lambda path: write_tensors(path, {"a": torch.zeros(1)}),
    "a.nii.gz": write_scan,
    "a.png": write_picture,
    "a.tar": write_shard,
}


@pytest.fixture(params=[0o022, 0o077, 0o002], ids="{:03o}".format)
def umask(request):
    """The mode of new files under it."""
    before = os.umask(request.param)
    yield 0o666 & ~request.param
    os.umask(before)


@pytest.mark.parametrize("name", WRITERS)
def test_every_result_has_the_mode_of_a_new_file(tmp_path, umask, name):
    path = tmp_path / name
    for _ in range(2):
        WRITERS[name](path)
        assert path.stat().st_mode & 0o777 == umask and list(tmp_path.iterdir()) == [path]
        path.chmod(0o400)


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


def test_a_file_below_what_is_no_folder_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").touch()
    refused = pytest.raises(KitsamError, match=r"new\.bin: cannot be written")
    with refused, complete_or_absent(tmp_path / "file" / "new.bin"):
        pass


def test_embedding_to_a_full_disk_is_one_line_and_leaves_no_half_shard(small_disk, data, monkeypatch):
    from tiny import embed_config

    from kitsam.embedding import folder
    from kitsam.embedding import run as embedding

    # The check before the start would refuse at once; a disk may also fill up later.
    monkeypatch.setattr(folder, "check_disk", lambda out, needed: None)
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
