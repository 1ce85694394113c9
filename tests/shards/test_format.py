"""shards/README.md is enough to write a reader from: this one knows tar, JSON, npy and PNG, and nothing of kitsam."""

import io
import json
import tarfile
import zlib

import numpy as np
import pytest
from PIL import Image
from rounding import assert_close_to_rounding
from tiny import embed_config

from kitsam.ct.strata import STRATA
from kitsam.shards.reader import ShardSet


def read_set(folder, name):
    """Yield (record, embedding, mask) of a shard by its index's offsets alone."""
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["format"] == 2
    shape = manifest["embedding"]["shape"]
    dtype = np.dtype(manifest["embedding"]["dtype"])
    index = json.loads((folder / name).with_suffix(".json").read_text())
    data = (folder / name).read_bytes()
    assert len(data) == index["bytes"]
    for sample in index["samples"]:
        embedding = np.frombuffer(data, dtype, np.prod(shape), sample["embedding"]).reshape(shape)
        if dtype == np.int8:
            embedding = embedding * np.frombuffer(data, np.float32, shape[0], sample["scale"])[:, None, None]
        (offset, size), (mask_offset, mask_size) = sample["record"], sample["mask"]
        mask = np.asarray(Image.open(io.BytesIO(data[mask_offset : mask_offset + mask_size])))
        assert zlib.crc32(data[sample["embedding"] : mask_offset + mask_size]) == sample["crc32"]
        yield json.loads(data[offset : offset + size]), embedding, mask


@pytest.fixture(scope="module", params=["float16", "int8"])
def folder(request, shards, data, tmp_path_factory):
    if request.param == "float16":
        return shards
    from kitsam.embedding import run as embedding

    out = tmp_path_factory.mktemp("format") / "set"
    assert embedding.run(embed_config(data, out, storage=request.param)) == 0
    return out


def test_a_reader_made_from_the_specification_finds_what_ours_finds(folder):
    ours = ShardSet(folder)
    for entry in ours.manifest.val:
        samples = ours.validation_slices(entry, 0, entry.samples)
        for number, (record, embedding, mask) in enumerate(read_set(folder, entry.name)):
            assert record["slice"] == number and record["case"] == entry.name.split("/")[1][:-4]
            # Bytes times a scale: one product.
            found = samples.embeddings(samples.stored.device)[number]
            assert_close_to_rounding(found, np.array(embedding), operations=1)
            assert np.array_equal(samples.masks[number], mask)
            assert np.bincount(mask.ravel(), minlength=4).tolist() == record["pixels"]
            left, right = np.array(record["transform"])[:, :2].T
            assert left[0] == pytest.approx(right[1])


def test_members_come_in_the_stated_order_with_the_numbers_where_stated(folder):
    storage = json.loads((folder / "manifest.json").read_text())["embedding"]["dtype"]
    suffixes = ["emb.npy", "scale.npy", "json", "mask.png"] if storage == "int8" else ["emb.npy", "json", "mask.png"]
    for path in sorted(folder.glob("*/*.tar")):
        index = json.loads(path.with_suffix(".json").read_text())["samples"]
        with tarfile.open(path) as tar:
            members = tar.getmembers()
            assert [member.name for member in members] == [
                f"{sample['key']}.{suffix}" for sample in index for suffix in suffixes
            ]
            for sample, member in zip(index, members[:: len(suffixes)]):
                assert member.offset_data + 128 == sample["embedding"]
                stored = np.load(io.BytesIO(tar.extractfile(member).read()), allow_pickle=False)
                assert stored.dtype == storage and stored.flags.c_contiguous


def test_names_say_stratum_and_split(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["train"]:
        stratum, group, number = entry["name"].removeprefix("train/").removesuffix(".tar").rsplit("-", 2)
        assert stratum in STRATA and len(group) == 4 and len(number) == 2
        records = [record for record, _, _ in read_set(folder, entry["name"])]
        assert {record["stratum"] for record in records} == {stratum} and len(records) == entry["samples"]
