import json
import shutil

import numpy as np
import pytest
from format_one import as_format_one
from tiny import embed_config

from kitsam.ct.instances import find_instances
from kitsam.ct.strata import STRATA
from kitsam.decoding.config import PromptConfig
from kitsam.embedding import run as embedding
from kitsam.shards import reader
from kitsam.shards.reader import ShardSet
from kitsam.system.errors import OptionError, ShardError


def training_samples(shards: ShardSet, steps: int = 20):
    order = shards.order("natural", 8, 0, STRATA)
    return [shards.read(order.batch(step)) for step in range(steps)]


@pytest.fixture
def copy(shards, tmp_path):
    return shutil.copytree(shards, tmp_path / "set")


@pytest.mark.parametrize("member", ["embedding", "record", "mask"])
def test_a_flipped_bit_of_a_sample_is_told_when_it_is_read(copy, member):
    entry = ShardSet(copy).manifest.val[0]
    sample = ShardSet(copy).index(entry).samples[5]
    place = getattr(sample, member)
    offset = place if isinstance(place, int) else sum(place) - 1
    with open(copy / entry.name, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 4]))
    shards = ShardSet(copy)
    assert shards.validation_slices(entry, 0, 5).records[4].slice == 4
    with pytest.raises(ShardError, match=f"{entry.name}: {sample.key}: damaged"):
        shards.validation_slices(entry, 0, 6)


def test_a_file_that_changes_while_it_is_in_use_is_compared_again(copy):
    shards = ShardSet(copy)
    entry = shards.manifest.val[0]
    shards.validation_slices(entry, 0, entry.samples)
    with open(copy / entry.name, "r+b") as file:
        file.seek(shards.index(entry).samples[2].embedding)
        file.write(b"\x55\xaa")
    with pytest.raises(ShardError, match="damaged"):
        shards.validation_slices(entry, 0, entry.samples)


def test_a_sample_is_compared_once_while_its_file_stays_as_it_is(shards, monkeypatch):
    whole = ShardSet(shards)
    entry = whole.manifest.val[0]
    whole.validation_slices(entry, 0, 2)
    monkeypatch.setattr(reader, "crc32_of", lambda pieces: -1)  # fits none
    assert len(whole.validation_slices(entry, 0, 2).records) == 2
    with pytest.raises(ShardError, match="damaged"):
        whole.validation_slices(entry, 0, 3)


def test_a_changed_index_is_told_when_it_is_read(copy):
    entry = ShardSet(copy).manifest.train[0]
    path = (copy / entry.name).with_suffix(".json")
    content = json.loads(path.read_text())
    content["samples"][0]["pixels"][1] += 1
    path.write_text(json.dumps(content, indent=1))
    with pytest.raises(ShardError, match=f"{path.name}: damaged"):
        ShardSet(copy).index(entry)


def test_a_changed_manifest_is_refused(copy):
    path = copy / "manifest.json"
    text = path.read_text()
    path.write_text(text.replace('"seed": 0', '"seed": 1', 1))
    with pytest.raises(ShardError, match="manifest.json: damaged"):
        ShardSet(copy)


def test_a_set_of_format_1_gives_the_same_samples(shards, tmp_path):
    old, new = ShardSet(as_format_one(shards, tmp_path / "old")), ShardSet(shards)
    assert old.manifest.format == 1 and new.manifest.format == 2
    for before, after in zip(training_samples(old), training_samples(new)):
        assert before.records == after.records and np.array_equal(before.stored.numpy(), after.stored.numpy())
        assert all(np.array_equal(*masks) for masks in zip(before.masks, after.masks))


def test_the_index_has_the_boxes_that_the_mask_gives(shards):
    whole, prompt = ShardSet(shards), PromptConfig()
    count = 0
    for entry in (*whole.manifest.train, *whole.manifest.val):
        samples = whole.validation_slices(entry, 0, entry.samples)
        for sample, record, mask in zip(whole.index(entry).samples, samples.records, samples.masks):
            pixel = record.pixel_of(mask)
            kidneys = find_instances((mask > 0)[None], pixel, prompt.merge, prompt.smallest).boxes
            assert sample.kidneys == tuple(tuple(map(int, box)) for box in kidneys)
            for boxes, label in ((sample.tumors, 2), (sample.cysts, 3)):
                inside = np.zeros(mask.shape, bool)
                for x0, y0, x1, y1 in boxes:
                    inside[y0:y1, x0:x1] = True
                    assert (mask[y0:y1, x0:x1] == label).any()
                assert inside[mask == label].all()
                count += len(boxes)
    assert count > 10


def test_the_fingerprint_is_of_the_content_and_not_of_the_place(shards, copy, data, tmp_path):
    assert ShardSet(copy).fingerprint == ShardSet(shards).fingerprint
    other = tmp_path / "other"
    assert embedding.run(embed_config(data, other, seed=1)) == 0
    assert ShardSet(other).fingerprint != ShardSet(shards).fingerprint


@pytest.fixture(scope="module")
def folds(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("folds") / "set"
    assert embedding.run(embed_config(data, out, folds=5, keep_ct=True)) == 0
    return out


def test_a_fold_trains_on_all_cases_but_its_own(folds):
    validated = set()
    for fold in range(5):
        shards = ShardSet(folds, fold=fold)
        val = {entry.case for entry in shards.manifest.val}
        seen = {record.case for samples in training_samples(shards) for record in samples.records}
        assert len(val) == 1 and not val & seen and len(seen) == 4
        assert {*shards.manifest.split.train} == seen and shards.manifest.split.val == tuple(val)
        cases = shards.manifest.cases
        assert shards.manifest.voxels == tuple(np.sum([cases[name].voxels for name in seen], axis=0))
        validated |= val
    assert len(validated) == 5


def test_a_fold_draws_each_of_its_samples_once_a_pass(folds):
    shards = ShardSet(folds, fold=0)
    order = shards.order({"kidney": 1}, 1, 0, STRATA)
    count = sum(sample.case not in shards.manifest.split.val for entry in shards.manifest.train
                if entry.stratum == "kidney" for sample in shards.index(entry).samples)  # fmt: skip
    keys = [shards.keys(order.batch(step))[0] for step in range(count)]
    assert len(set(keys)) == count


@pytest.mark.parametrize(("fold", "message"), [(None, "has 5 folds"), (5, "folds 0 to 4")])
def test_a_set_with_folds_wants_one_of_them(folds, fold, message):
    with pytest.raises(OptionError, match=f"--fold: .*{message}"):
        ShardSet(folds, fold=fold)


def test_a_set_without_folds_has_none(shards):
    with pytest.raises(OptionError, match="--fold: 0, but .* no folds"):
        ShardSet(shards, fold=0)


def test_the_slice_itself_is_kept_where_asked_for(folds, data):
    import io
    import tarfile

    from PIL import Image

    from kitsam.ct.case import find_cases, read_case

    entry = ShardSet(folds, fold=0).manifest.val[0]
    image = read_case(find_cases(data)[entry.case]).image
    with tarfile.open(folds / entry.name) as tar:
        picture = np.asarray(Image.open(io.BytesIO(tar.extractfile(f"{entry.case}-0004-0.ct.png").read())))
    expected = (np.clip(image[4], -160, 240) + 160) * (255 / 400)
    assert picture.dtype == np.uint8 and np.abs(picture - expected).max() <= 0.5 + 1e-3
