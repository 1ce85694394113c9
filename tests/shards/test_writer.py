import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from kitsam.shards.index import index_path, read_index, write_index
from kitsam.shards.masks import decode_mask
from kitsam.shards.sample import SampleRecord
from kitsam.shards.writer import ShardWriter
from kitsam.system.errors import ShardError
from kitsam.system.records import decode_record


def sample(number: int):
    rng = np.random.default_rng(number)
    embedding = rng.standard_normal((256, 2, 2)).astype(np.float16)
    mask = rng.integers(0, 4, (20, 30)).astype(np.uint8)
    pixels = tuple(np.bincount(mask.ravel(), minlength=4).tolist())
    record = SampleRecord(
        "case_00001", number, 0, "tumor_cyst", pixels, (20, 30), (5.0, 0.8, 0.8), ((1.0, 0, 0), (0, 1.0, 0))
    )
    return embedding, mask, record


def write(path: Path, numbers=range(3)) -> None:
    with ShardWriter(path) as writer:
        for number in numbers:
            writer.add(*sample(number))
    write_index(path, writer.index())


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "train" / "tumor_cyst-0000-00.tar"
    write(path)
    return path


def test_stock_webdataset_finds_the_same_arrays(shard):
    import webdataset

    decoders = [webdataset.handle_extension("emb.npy", _npy)]
    found = list(webdataset.WebDataset(str(shard), shardshuffle=False).decode(*decoders, "l8"))
    assert [entry["__key__"] for entry in found] == [sample(number)[2].key for number in range(3)]
    for number, entry in enumerate(found):
        embedding, mask, record = sample(number)
        assert np.array_equal(entry["emb.npy"], embedding)
        assert np.array_equal(entry["mask.png"], mask)
        assert entry["json"]["pixels"] == list(record.pixels)


def _npy(data: bytes) -> np.ndarray:
    import io

    return np.load(io.BytesIO(data), allow_pickle=False)


def test_the_index_says_where_each_member_lies(shard):
    data = shard.read_bytes()
    for number, entry in enumerate(read_index(shard).samples):
        embedding, mask, record = sample(number)
        found = np.frombuffer(data, np.float16, embedding.size, entry.embedding).reshape(embedding.shape)
        assert np.array_equal(found, embedding)
        offset, size = entry.mask
        assert np.array_equal(decode_mask(data[offset : offset + size], "mask"), mask)
        offset, size = entry.record
        assert decode_record(data[offset : offset + size], SampleRecord, "record") == record
        assert entry.embedding % 64 == 0


def test_plain_tarfile_reads_it_to_the_end(shard):
    with tarfile.open(shard) as tar:
        names = tar.getnames()
    assert names == [f"{sample(n)[2].key}.{suffix}" for n in range(3) for suffix in ("emb.npy", "json", "mask.png")]


def test_the_same_samples_give_the_same_bytes(shard, tmp_path):
    other = tmp_path / "again.tar"
    write(other)
    assert other.read_bytes() == shard.read_bytes()
    assert index_path(other).read_bytes() == index_path(shard).read_bytes()


def test_an_error_inside_leaves_no_tar_and_no_temporary_file(tmp_path):
    with pytest.raises(RuntimeError), ShardWriter(tmp_path / "kidney-0000-00.tar") as writer:
        writer.add(*sample(0))
        raise RuntimeError("the encoder failed")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_index_is_refused_by_name(shard):
    fields = json.loads(index_path(shard).read_text())
    del fields["samples"][0]["mask"]
    index_path(shard).write_text(json.dumps(fields))
    with pytest.raises(ShardError, match=index_path(shard).name):
        read_index(shard)
