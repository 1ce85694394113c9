"""`import kitsam`: what a program or a notebook uses."""

import subprocess
import sys
import time

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from tiny_dicom import write_series

import kitsam
from kitsam.ct.scan_files import find_files
from kitsam.evaluation.metrics import score_case
from kitsam.inference import bundle
from kitsam.inference import predict as prediction
from kitsam.inference.config import BundleConfig, CascadeConfig, PredictConfig


@pytest.fixture(scope="module")
def file(runs, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    cascade = CascadeConfig(roi_threshold=0.3, lesion_threshold=0.2, smallest_roi=0.01, smallest_lesion=0.0)
    assert bundle.run(BundleConfig(runs["roi"], path, runs["tumor"], runs["cyst"], cascade)) == 0
    return path


@pytest.fixture(scope="module")
def model(file):
    return kitsam.load_model(file, "cpu")


@pytest.fixture
def ct(data):
    return data / "case_00000" / "imaging.nii.gz"


def test_importing_kitsam_takes_no_time():
    program = "import sys, kitsam; assert not {'torch', 'numpy', 'nibabel'} & {*sys.modules}; kitsam.KitsamError"
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", program], check=True)
    bare = time.monotonic() - began
    assert bare < 5  # a loaded machine; alone it takes less than 0.3 s
    assert {"load_model", "score", "open_shards"} <= {*dir(kitsam)}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = kitsam.nothing


def test_predict_gives_what_the_command_line_writes(model, file, ct, tmp_path):
    assert prediction.run(PredictConfig([ct], file, tmp_path / "out", device="cpu", probabilities=True)) == 0
    found, written = model.predict(ct), nib.load(tmp_path / "out" / "case_00000.nii.gz")
    assert found.name == "case_00000" and np.array_equal(found.label, np.asanyarray(written.dataobj))
    assert np.array_equal(found.affine, written.affine) and found.label.any()
    saved = found.save(tmp_path / "mine" / "case_00000.nii.gz", probabilities=True)
    assert saved.read_bytes() == (tmp_path / "out" / "case_00000.nii.gz").read_bytes()
    for name in ("case_00000.json", "case_00000.png", "labels.ctbl"):
        assert (tmp_path / "mine" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    for folder in ("mine", "out"):
        with np.load(tmp_path / folder / "case_00000_probabilities.npz") as volumes:
            assert {*volumes} == {"roi", "tumor", "cyst", "affine"}
            assert np.abs(volumes["roi"] - found.probabilities["roi"]).max() <= 0.001


def test_a_scan_in_memory_gives_what_its_file_gives(model, ct):
    image, expected = nib.load(ct), model.predict(ct).label
    for scan in (image, (np.asanyarray(image.dataobj), None, image.affine), str(ct), ct.parent):
        assert np.array_equal(model.predict(scan, probabilities=False).label, expected)
    assert np.array_equal(model.predict(sitk.ReadImage(str(ct))).label, expected)


def test_probabilities_decide_the_labels(model, ct):
    found = model.predict(ct)
    roi = found.probabilities["roi"]
    assert roi.shape == found.label.shape and roi.dtype == np.float16
    # Cleaning up fills holes and takes small parts; by far the most of the kidney is above the threshold.
    assert np.mean(roi[found.label > 0] > 0.3) > 0.95
    assert (found.probabilities["tumor"][found.label == 2] > 0.2).all()
    assert model.predict(ct, probabilities=False).probabilities is None


@pytest.mark.parametrize("boxes", [[[3, 20, 8, 6, 50, 30]], [3, 20, 8, 6, 50, 30], np.array([[3, 20, 8, 6, 50, 30]])])
def test_boxes_are_indices_of_the_label(model, ct, boxes):
    label = model.predict(ct, boxes).label
    outside = np.ones(label.shape, bool)
    outside[3:7, 20:51, 8:31] = False
    assert label.any() and not label[outside].any()


def test_errors_are_kitsams_own(model, ct, data, tmp_path):
    for boxes, message in (
        ([[1, 2, 3]], "boxes: a box is six whole numbers"),
        ([{"box": [0] * 6, "label": 2}], "boxes: label and propagate are for a checkpoint"),
        ([[0, 0, 0, 99, 5, 5]], "boxes: box .* leaves the scan"),
    ):
        with pytest.raises(kitsam.KitsamError, match=message):
            model.predict(ct, boxes)
    with pytest.raises(kitsam.OptionError, match="scan: no such file"):
        model.predict(tmp_path / "nowhere.nii.gz")
    with pytest.raises(kitsam.OptionError, match="holds 5 scans, give one"):
        model.predict(data)
    with pytest.raises(kitsam.OptionError, match="model: no such file: .*nowhere, and no name of a checkpoint"):
        kitsam.load_model("nowhere")
    with pytest.raises(kitsam.CaseError, match="scan: expected a path"):
        model.predict(None)
    with pytest.raises(kitsam.OptionError, match="would replace what was given"):
        model.predict(ct).save(ct)


def test_a_picture_is_shown(model, ct):
    assert min(model.predict(ct).overlay().size) > 100


def test_score_is_that_of_the_evaluator(model, ct, data, tmp_path):
    truth = data / "case_00000" / "segmentation.nii.gz"
    found = model.predict(ct)
    true = np.asanyarray(nib.load(truth).dataobj)
    expected = score_case(true, found.label, found.volume.spacing, found.geometry.voxel_ml)
    path = found.save(tmp_path / "a.nii.gz")
    assert kitsam.score(found, truth) == kitsam.score(found, true) == kitsam.score(path, truth) == expected
    # In a file of other axes.
    flipped = nib.load(ct).slicer[:, ::-1]
    turned = nib.Nifti1Image(np.asanyarray(flipped.dataobj).T, flipped.affine[:, [2, 1, 0, 3]])
    other = model.predict(turned)
    assert np.array_equal(other.label, found.label[:, ::-1].T)
    assert kitsam.score(other, true[:, ::-1].T) == expected
    # In one whose axes change places and directions at once, as LAS files do: the way there is not the way back.
    turned = nib.as_closest_canonical(nib.load(ct)).slicer[::-1]
    other = model.predict(turned)
    assert kitsam.score(other, true[::-1, ::-1].T) == expected
    with pytest.raises(kitsam.CaseError, match="shape"):
        kitsam.score(found, true[:-1])
    with pytest.raises(kitsam.CaseError, match="labels other than"):
        kitsam.score(found, true + 4)


def test_shards_are_batches_of_tensors(shards):
    batches = kitsam.open_shards(shards, batch_size=4)
    first = [*batches]
    assert len(first) == len(batches)
    one = first[0]
    assert one.embeddings.shape == (4, 256, 4, 4) and one.embeddings.dtype == torch.float16
    assert one.masks.shape[0] == 4 and one.masks.dtype == torch.uint8 and len({*one.keys}) == 4
    # A pass begins anew with the same batches, and what was given stays as it was.
    again = [*batches]
    assert all(torch.equal(a.embeddings, b.embeddings) and a.keys == b.keys for a, b in zip(first, again))
    val = [*kitsam.open_shards(shards, "val", 4)]
    keys = [key for batch in val for key in batch.keys]
    assert keys == sorted(keys) and len(keys) == 20
    with pytest.raises(kitsam.KitsamError, match="shards: "):
        kitsam.open_shards(shards / "nowhere")


def test_the_label_of_a_dicom_series_is_column_row_slice(model, tmp_path, data):
    voxels = np.asanyarray(nib.load(data / "case_00000" / "imaging.nii.gz").dataobj)[::-1]
    write_series(tmp_path / "s", voxels)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "s"))
    sitk.WriteImage(sitk.ReadImage(names), str(tmp_path / "s.nii.gz"))
    found = model.predict(tmp_path / "s")
    assert found.label.any() and np.array_equal(found.label, model.predict(tmp_path / "s.nii.gz").label)
    assert found.scan == find_files(tmp_path / "s")[0]
