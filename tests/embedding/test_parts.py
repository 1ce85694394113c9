"""Units that several processes share: the same bytes, however they were cut, broken off and joined."""

from itertools import chain
from pathlib import Path

import pytest
from tiny import embed_config, write_cases

from kitsam.embedding import run as embedding
from kitsam.embedding import work, writing
from kitsam.embedding.shares import share_out
from kitsam.sam.encoding import SliceEncoder
from kitsam.shards.manifest import read_manifest
from kitsam.system.errors import KitsamError
from kitsam.system.files import sha256_of


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def cut(monkeypatch):
    """A function: have one process do the shares of so many, one after the other."""

    def choose(processes: int) -> None:
        def shares(line, units, batch_size, _):
            return [list(chain.from_iterable(share_out(line, units, batch_size, processes)))]

        monkeypatch.setattr(embedding, "share_out", shares)

    return choose


@pytest.fixture
def encoded(monkeypatch):
    """Slices that were encoded."""
    slices = []
    encode = SliceEncoder.__call__

    def count(self, image, places, views):
        slices.extend(places)
        return encode(self, image, places, views)

    monkeypatch.setattr(SliceEncoder, "__call__", count)
    return slices


class Killed(KitsamError):
    pass


def after(calls: int, function):
    """The function, and then no more."""
    done = []

    def call(*arguments, **options):
        if len(done) == calls:
            raise Killed("killed")
        done.append(1)
        return function(*arguments, **options)

    return call


@pytest.mark.parametrize("processes", [2, 7])
def test_any_number_of_shares_gives_the_bytes_of_one(processes, data, shards, tmp_path, cut):
    cut(processes)
    assert embedding.run(embed_config(data, tmp_path / "set")) == 0
    assert files_of(tmp_path / "set") == files_of(shards)


@pytest.mark.parametrize("makers, writers", [(1, 1), (7, 5)])
def test_any_number_of_threads_gives_the_same_bytes(makers, writers, data, shards, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "MAKERS", makers)
    monkeypatch.setattr(writing, "WRITERS", writers)
    assert embedding.run(embed_config(data, tmp_path / "set")) == 0
    assert files_of(tmp_path / "set") == files_of(shards)


def test_what_is_done_of_a_unit_is_kept_for_any_other_number_of_processes(
    data, shards, tmp_path, cut, encoded, monkeypatch
):
    cut(7)
    whole = read_manifest(shards)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(work, "_embed_case", after(6, work._embed_case))
        embedding.run(embed_config(data, tmp_path / "set"))
    assert list((tmp_path / "set" / "parts").glob("*/units/*.json"))
    encoded.clear()
    cut(3)
    assert embedding.run(embed_config(data, tmp_path / "set")) == 0
    assert files_of(tmp_path / "set") == files_of(shards)
    assert len(encoded) < sum(entry.samples for entry in (*whole.train, *whole.val))


@pytest.mark.parametrize("joined", [0, 3])
def test_broken_off_while_joining_nothing_is_encoded_again(joined, data, shards, tmp_path, cut, encoded, monkeypatch):
    cut(7)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(embedding, "join_shard", after(joined, embedding.join_shard))
        embedding.run(embed_config(data, tmp_path / "set"))
    encoded.clear()
    cut(2)
    assert embedding.run(embed_config(data, tmp_path / "set")) == 0
    assert files_of(tmp_path / "set") == files_of(shards)
    assert not encoded


def test_a_damaged_part_is_named_and_made_again(data, shards, tmp_path, cut, encoded, monkeypatch):
    cut(7)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(embedding, "join_shard", after(0, embedding.join_shard))
        embedding.run(embed_config(data, tmp_path / "set"))
    damaged = next((tmp_path / "set" / "parts").glob("*/*/*.tar"))
    content = bytearray(damaged.read_bytes())
    content[1000] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(KitsamError, match=f"{damaged.name}: damaged"):
        embedding.run(embed_config(data, tmp_path / "set"))
    assert embedding.run(embed_config(data, tmp_path / "set")) == 0
    assert files_of(tmp_path / "set") == files_of(shards)


def test_a_bad_case_that_is_shared_is_left_out_as_by_one_process(tmp_path, cut, capsys):
    data = write_cases(tmp_path / "data", 5)
    scan = data / "case_00001" / "imaging.nii.gz"
    scan.write_bytes(scan.read_bytes()[:-300])
    assert embedding.run(embed_config(data, tmp_path / "one")) == 1
    alone = capsys.readouterr().err
    cut(9)
    assert embedding.run(embed_config(data, tmp_path / "many")) == 1
    assert files_of(tmp_path / "many") == files_of(tmp_path / "one")
    assert capsys.readouterr().err.count("case_00001 is left out") == alone.count("case_00001 is left out") == 1


def test_a_scan_that_changes_between_two_shares_of_it_is_noticed(data, tmp_path, cut, monkeypatch):
    cut(9)
    scans = map(str, range(1000))

    def changing(path: Path) -> str:
        return next(scans) if path.name.startswith("imaging") else sha256_of(path)

    monkeypatch.setattr(work, "sha256_of", changing)
    with pytest.raises(KitsamError, match="did not read the same scans of case_"):
        embedding.run(embed_config(data, tmp_path / "set"))
    assert not (tmp_path / "set" / "manifest.json").exists()
