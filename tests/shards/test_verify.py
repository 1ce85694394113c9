import io
import json
import shutil
import tarfile
from pathlib import Path

import pytest
from resealing import edit_sealed

from kitsam.shards import verify
from kitsam.shards.config import ShardsConfig


@pytest.fixture
def copy(shards, tmp_path) -> Path:
    return shutil.copytree(shards, tmp_path / "set")


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1024])


def rewrite(path: Path, keep) -> None:
    """A valid tar, described by its index and the manifest, that holds other members than the index says."""
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for member, data in keep(members):
            tar.addfile(member, io.BytesIO(data))
    manifest_path, index_path = path.parents[1] / "manifest.json", path.with_suffix(".json")
    tar_now = {"sha256": verify.sha256_of(path), "bytes": path.stat().st_size}
    index_path.write_text(json.dumps({**json.loads(index_path.read_text()), **tar_now}))

    def describe(manifest):
        entry = next(entry for entry in manifest["train"] if entry["name"].endswith(path.name))
        entry.update(tar_now, index_sha256=verify.sha256_of(index_path))

    edit_sealed(manifest_path, describe)


def lose_a_sample(path: Path) -> None:
    rewrite(path, lambda members: members[3:])


def add_a_sample(path: Path) -> None:
    def twice(members):
        again = []
        for member, data in members[:3]:
            stray = tarfile.TarInfo(f"stray-{member.name}")
            stray.size = len(data)
            again.append((stray, data))
        return members + again

    rewrite(path, twice)


def take_the_neighbors_index(path: Path) -> None:
    other = next(tar for tar in sorted(path.parent.glob("*.tar")) if tar != path)
    shutil.copy(other.with_suffix(".json"), path.with_suffix(".json"))


def shift_an_offset(path: Path) -> None:
    index = json.loads(path.with_suffix(".json").read_text())
    index["samples"][0]["embedding"] += 512
    path.with_suffix(".json").write_text(json.dumps(index))


def lose_the_index(path: Path) -> None:
    path.with_suffix(".json").unlink()


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_bit,
        cut,
        lose_a_sample,
        add_a_sample,
        take_the_neighbors_index,
        shift_an_offset,
        lose_the_index,
        Path.unlink,
    ],
)
def test_one_damaged_shard_is_named_alone(copy, capsys, damage):
    assert verify.run(ShardsConfig(copy)) == 0
    capsys.readouterr()
    path = sorted(copy.glob("train/*.tar"))[1]
    damage(path)
    assert verify.run(ShardsConfig(copy)) == 1
    bad = [line for line in capsys.readouterr().out.splitlines() if line.startswith("BAD")]
    assert len(bad) == 1 and str(path.with_suffix("")) in bad[0]


def test_a_stray_tar_is_named(copy, capsys):
    path = copy / "train" / "stray-0000-00.tar"
    shutil.copy(next(copy.glob("train/*.tar")), path)
    assert verify.run(ShardsConfig(copy)) == 1
    assert f"BAD {path}: not in the manifest" in capsys.readouterr().out
