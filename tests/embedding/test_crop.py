"""Slices that are cut to the body give what slices would give that hold nothing else."""

import nibabel as nib
import numpy as np
import pytest
import torch
from tiny import CASCADE, draw_case, embed_config, evaluate_config, train_config, write_case

from kitsam.ct.body import BodyBox, find_body
from kitsam.ct.config import InputConfig
from kitsam.embedding.run import run as embed
from kitsam.evaluation.evaluate import run as evaluate
from kitsam.inference import bundle, predict
from kitsam.inference.config import BundleConfig, CascadeConfig, PredictConfig
from kitsam.shards.reader import ShardSet
from kitsam.training.loop import train

CASES = 4
AROUND = ((0, 0), (12, 20), (8, 4))  # slices, rows, columns of air


def bodies(tmp_path) -> dict[str, BodyBox]:
    """Write each case with much air around it to `wide`, and cut to its body to `narrow`."""
    found = {}
    for number in range(CASES):
        name = f"case_{number:05d}"
        image, label = draw_case(number)
        image, label = np.pad(image, AROUND, constant_values=-1000), np.pad(label, AROUND)
        found[name] = find_body(image.astype(np.float32), (1.5, 1.5))
        write_case(tmp_path / "wide" / name, image, label)
        write_case(tmp_path / "narrow" / name, found[name].cut(image), found[name].cut(label))
    return found


def labels_in(folder) -> dict[str, np.ndarray]:
    return {path.name[:10]: np.asanyarray(nib.load(path).dataobj) for path in sorted(folder.glob("case_*.nii.gz"))}


@pytest.fixture
def pair(tmp_path):
    """Sets of both, and the boxes."""
    found = bodies(tmp_path)
    assert embed(embed_config(tmp_path / "narrow", tmp_path / "plain")) == 0
    assert embed(embed_config(tmp_path / "wide", tmp_path / "cut", input=InputConfig(crop="body"))) == 0
    return tmp_path, found


def test_embeddings_masks_and_boxes_are_those_of_the_body_alone(pair):
    folder, found = pair
    plain, cut = ShardSet(folder / "plain"), ShardSet(folder / "cut")
    assert cut.manifest.input["crop"] == "body" and "crop" not in plain.manifest.input
    for one, other in zip((*plain.manifest.train, *plain.manifest.val), (*cut.manifest.train, *cut.manifest.val)):
        ours, theirs = cut.validation_slices(other, 0, 16), plain.validation_slices(one, 0, 16)
        assert torch.equal(ours.stored, theirs.stored)
        assert all(map(np.array_equal, ours.masks, theirs.masks))
        assert [entry.kidneys for entry in cut.index(other).samples] == [
            entry.kidneys for entry in plain.index(one).samples
        ]
        for record, reference, mask in zip(ours.records, theirs.records, ours.masks):
            body = found[record.case]
            assert record.body == body and record.native_shape == (64 + 32, 64 + 12)
            assert record.pixel_of(mask) == reference.pixel_of(mask)
            point = np.array([body.left + 7.0, body.top + 5.0, 1])
            expected = np.array(reference.transform) @ [7.0, 5.0, 1]
            np.testing.assert_allclose(np.array(record.transform) @ point, expected, atol=1e-4)


def test_label_maps_are_those_of_the_body_alone_with_nothing_around(pair):
    folder, found = pair
    shape = (10, 64 + 32, 64 + 12)
    for name, data in (("plain", "narrow"), ("cut", "wide")):
        runs = {target: folder / f"{name}-{target}" for target in ("roi", "tumor")}
        for target, run in runs.items():
            assert train(train_config(target, folder / name, run, quotas="natural")) == 0
        assert evaluate(evaluate_config(folder / data, folder / name, runs, folder / f"{name}-results")) == 0
        model = folder / f"{name}.safetensors"
        assert bundle.run(BundleConfig(runs["roi"], model, runs["tumor"], cascade=CascadeConfig(**CASCADE))) == 0
        scans = sorted((folder / data).iterdir())
        assert predict.run(PredictConfig(scans, model, folder / f"{name}-labels", device="cpu")) == 0
    for part in ("results/predictions", "labels"):
        narrow, wide = labels_in(folder / f"plain-{part}"), labels_in(folder / f"cut-{part}")
        assert narrow.keys() == wide.keys() and any(label.any() for label in narrow.values())
        for name, label in narrow.items():
            assert np.array_equal(found[name].put_back(label, shape), wide[name])
