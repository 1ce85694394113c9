"""What a shard set was begun with stays what it is made from, and nothing of it is lost without a word."""

import gzip
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tiny import embed_config, write_cases

from kitsam.embedding import run as embedding
from kitsam.shards import verify
from kitsam.shards.config import ShardsConfig
from kitsam.shards.manifest import read_manifest
from kitsam.system.errors import KitsamError, OptionError


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def copy(shards, tmp_path):
    return shutil.copytree(shards, tmp_path / "set")


@pytest.fixture
def own_data(data, tmp_path):
    return shutil.copytree(data, tmp_path / "data")


def correct_a_label(data: Path) -> None:
    path = data / "case_00001" / "segmentation.nii.gz"
    image = nib.load(path)
    labels = np.asarray(image.dataobj).copy()
    labels[5, 30, 30] = 1
    nib.save(nib.Nifti1Image(labels, image.affine), path)


def exchange_a_scan(data: Path) -> None:
    path = data / "case_00001" / "imaging.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 1, image.affine), path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (correct_a_label, "segmentation.nii.gz: not the labels"),
        (exchange_a_scan, "imaging.nii.gz: not the scan"),
    ],
)
def test_other_files_under_the_same_names_are_refused(copy, own_data, change, named):
    before = files_of(copy)
    change(own_data)
    with pytest.raises(OptionError, match=f"--data: .*case_00001/{named}"):
        embedding.run(embed_config(own_data, copy))
    assert files_of(copy) == before


def test_another_data_set_with_the_same_names_is_refused(copy, tmp_path):
    other = tmp_path / "other"
    for number, folder in enumerate(sorted(write_cases(tmp_path / "seven", 7).iterdir())[3:]):
        shutil.copytree(folder, other / f"case_{number:05d}")
    with pytest.raises(OptionError, match="--data: "):
        embedding.run(embed_config(other, copy))


def test_moved_data_and_a_moved_set_go_on(copy, own_data, tmp_path):
    moved = tmp_path / "elsewhere" / "set"
    moved.parent.mkdir()
    copy.rename(moved)
    before = files_of(moved)
    assert embedding.run(embed_config(own_data, moved)) == 0
    assert files_of(moved) == before


def test_a_split_file_that_was_edited_is_refused(data, tmp_path):
    splits = tmp_path / "splits_final.json"
    names = [f"case_{number:05d}" for number in range(4)]
    folds = [{"train": names[:3], "val": names[3:]}, {"train": names[1:], "val": names[:1]}]
    splits.write_text(json.dumps(folds))
    out = tmp_path / "set"
    assert embedding.run(embed_config(data, out, splits=splits)) == 0
    renamed = splits.rename(tmp_path / "other.json")
    assert embedding.run(embed_config(data, out, splits=renamed)) == 0
    splits.write_text(json.dumps(folds[::-1]))
    with pytest.raises(OptionError, match="--splits: .* begun with another split"):
        embedding.run(embed_config(data, out, splits=splits))


def test_cases_on_neither_side_of_a_split_are_named(data, tmp_path, capsys):
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps({"train": ["case_00000", "case_00001"], "val": ["case_00002"]}))
    assert embedding.run(embed_config(data, tmp_path / "set", splits=splits)) == 0
    assert "left out, on neither side" in (err := capsys.readouterr().err) and "case_00003" in err


@pytest.mark.parametrize("side", ["train", "val"])
def test_a_case_whose_scan_is_cut_is_named_and_kept_in_the_manifest(own_data, shards, tmp_path, side, capsys):
    split = read_manifest(shards).split
    name = getattr(split, side)[0]
    # The group of two, of which one alone is bad, and a validation case beside another.
    options = {"val_fraction": 0.5} if side == "val" else {}
    if side == "val":
        out = tmp_path / "whole"
        embedding.run(embed_config(own_data, out, **options))
        name = read_manifest(out).split.val[0]
    scan = own_data / name / "imaging.nii.gz"
    scan.write_bytes(scan.read_bytes()[:-300])
    out = tmp_path / "set"
    assert embedding.run(embed_config(own_data, out, **options)) == 1
    manifest = read_manifest(out)
    assert manifest.skipped.keys() == {name} and "imaging.nii.gz" in manifest.skipped[name]
    assert name not in manifest.cases and f"{name} was left out" in capsys.readouterr().err
    assert verify.run(ShardsConfig(str(out))) == 0
    # Started again it says so again; mended, the case is embedded.
    assert embedding.run(embed_config(own_data, out, **options)) == 1


def test_any_file_of_a_set_that_is_removed_is_made_again(shards, data, tmp_path):
    whole = files_of(shards)
    for name in whole:
        out = shutil.copytree(shards, tmp_path / name.replace("/", "-"))
        (out / name).unlink()
        assert embedding.run(embed_config(data, out)) == 0
        assert files_of(out) == whole, name
        shutil.rmtree(out)


def test_verify_tells_every_file_that_is_missing_but_what_nobody_reads(shards, tmp_path):
    for name in files_of(shards):
        out = shutil.copytree(shards, tmp_path / name.replace("/", "-"))
        (out / name).unlink()
        try:
            code = verify.run(ShardsConfig(str(out)))
        except KitsamError:
            code = 1
        assert code == (0 if name == "splits.json" else 1), name
        shutil.rmtree(out)


def test_merging_without_the_record_of_a_unit_is_an_error(copy, data, monkeypatch):
    config = embed_config(data, copy)
    lost = next((copy / "units").iterdir())

    def forget(*_):
        lost.unlink()

    monkeypatch.setattr(embedding, "_embed_share", forget)
    with pytest.raises(KitsamError, match=lost.name):
        embedding.run(config)


def test_a_label_file_packed_anew_is_another_file(own_data, copy):
    """Files are known by their bytes: reading every volume to compare would take as long as the plan."""
    path = own_data / "case_00001" / "segmentation.nii.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1))
    with pytest.raises(OptionError, match="not the labels"):
        embedding.run(embed_config(own_data, copy))


def test_a_case_whose_name_can_name_no_shard_is_left_out_by_name(own_data, tmp_path, capsys):
    (own_data / "case_00004").rename(own_data / "Fall Müller 4")
    out = tmp_path / "set"
    assert embedding.run(embed_config(own_data, out, val_fraction=0.3)) == 1
    assert read_manifest(out).skipped.keys() == {"Fall Müller 4"} and "Fall Müller 4" in capsys.readouterr().err
