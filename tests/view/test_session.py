"""What a box changes, on the scan's own voxels, and what is kept."""

import dataclasses

import nibabel as nib
import numpy as np
import pytest
from scans import BRIGHT

from kitsam.system.errors import CaseError, KitsamError, OptionError
from kitsam.view.session import Session, Stopped, free_name


def box_around(scan, right: bool) -> list[int]:
    """A kidney on its largest slice, in voxels of the file; which axis holds slices is the affine's to say."""
    image = nib.load(scan)
    bright = np.asanyarray(image.dataobj) > BRIGHT
    mm = nib.affines.apply_affine(image.affine, np.argwhere(np.ones(bright.shape, bool)))[:, 0].reshape(bright.shape)
    middle = nib.affines.apply_affine(image.affine, np.array(bright.shape) / 2)[0]
    kidney = bright & ((mm > middle) == right)
    axis = int(np.argmax(np.abs(image.affine[2, :3])))
    areas = kidney.sum(tuple(other for other in range(3) if other != axis))
    where = np.argwhere(kidney & (np.indices(kidney.shape)[axis] == areas.argmax()))
    return [*where.min(0).tolist(), *where.max(0).tolist()]


def expected(scan, box: list[int], label: int) -> np.ndarray:
    voxels = np.asanyarray(nib.load(scan).dataobj)
    found, inside = np.zeros(voxels.shape, np.uint8), tuple(slice(a, b + 1) for a, b in zip(box[:3], box[3:]))
    found[inside] = label * (voxels[inside] > BRIGHT)
    return found


def labels_of(session: Session) -> np.ndarray:
    return session.volume.geometry.in_file_order(session.label).copy()


def test_what_is_saved_lies_in_the_box_of_the_file_with_its_affine(session, scan):
    box = box_around(scan, right=True)
    answer = session.label_box({"box": box, "label": 2})
    assert "tumor +" in answer.text and "in 1 slice" in answer.text and str(box) in answer.text
    saved = session.save()
    assert str(session.out) in saved.text and not session.unsaved
    image = nib.load(session.out)
    assert np.array_equal(np.asanyarray(image.dataobj), expected(scan, box, 2)) and image.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(image.affine, nib.load(scan).affine)


def test_undo_brings_each_step_back_and_knows_what_was_saved(session, scan):
    one, other = box_around(scan, right=True), box_around(scan, right=False)
    session.label_box({"box": one, "label": 1})
    before = session.label.copy()
    session.save()
    session.label_box({"box": other, "label": 3, "propagate": True})
    assert session.unsaved and (session.label == 3).any()
    session.undo()
    assert np.array_equal(session.label, before) and not session.unsaved
    session.undo()
    assert not session.label.any() and session.unsaved
    assert session.undo().text == "nothing to undo"


def test_a_box_replaces_its_class_inside_and_a_kidney_leaves_its_lesions(session, scan):
    box = box_around(scan, right=True)
    session.label[...] = 2  # a tumor everywhere
    session.label_box({"box": box, "label": 2})
    inside = tuple(slice(a, b + 1) for a, b in zip(box[:3], box[3:]))
    labels = labels_of(session)
    assert np.array_equal(labels[inside], expected(scan, box, 2)[inside])
    outside = np.ones(labels.shape, bool)
    outside[inside] = False
    assert (labels[outside] == 2).all()
    whole = [0, 0, 0, *(size - 1 for size in labels.shape)]
    session.label_box({"box": whole, "label": 1})
    assert np.array_equal(labels_of(session) == 2, labels == 2)
    assert (labels_of(session) == 1).sum() == ((expected(scan, whole, 1) == 1) & (labels != 2)).sum()


def test_a_bundle_decides_the_labels_of_a_box_or_of_the_whole_scan(session, scan):
    answer = np.random.default_rng(0).integers(0, 4, session.label.shape).astype(np.uint8)
    session.model = dataclasses.replace(session.model, needs_boxes=False, find_labels=lambda question: answer.copy())
    session.label[...] = 2
    box = box_around(scan, right=True)
    assert session.label_box(box).text.startswith(f"labels found in box {box}")
    inside = np.zeros(labels_of(session).shape, bool)
    inside[tuple(slice(a, b + 1) for a, b in zip(box[:3], box[3:]))] = True
    found = session.volume.geometry.in_file_order(answer)
    assert np.array_equal(labels_of(session), np.where(inside, found, 2))
    assert session.label_box(None).text.startswith("labels found in the whole scan")
    assert np.array_equal(session.label, answer)


def test_erasing_takes_one_class_out_of_a_box(session, scan):
    box = box_around(scan, right=False)
    session.label[...] = 1
    session.label[0] = 3
    everything = session.label.copy()
    session.erase_box({"box": box, "label": 1})
    inside = tuple(slice(a, b + 1) for a, b in zip(box[:3], box[3:]))
    labels = labels_of(session)
    assert not (labels[inside] == 1).any() and (labels == 1).sum() < (everything == 1).sum()
    assert np.array_equal(session.label == 3, everything == 3)
    assert "nothing changed" in session.erase_box({"box": box, "label": 2}).text and len(session.steps) == 1


def test_nothing_that_is_there_is_written_over(session, scan):
    session.out.write_text("another's")
    session.label_box({"box": box_around(scan, right=True)})
    session.save()
    session.save()
    assert scan.with_name("scan_labels.nii.gz").read_text() == "another's"
    assert session.out.name == "scan_labels-2.nii.gz" and nib.load(session.out).shape == nib.load(scan).shape
    assert free_name(session.out).name == "scan_labels-2-2.nii.gz"


def test_what_cannot_be_labelled_is_told_and_changes_nothing(session, scan):
    with pytest.raises(OptionError, match="six whole numbers"):
        session.label_box({"box": [1, 2, 3]})
    with pytest.raises(CaseError, match="leaves the scan"):
        session.label_box({"box": [0, 0, 0, 999, 1, 1]})
    with pytest.raises(OptionError, match="there is none"):
        session.label_box(None)
    assert not session.steps and not session.label.any()
    session.model = None
    with pytest.raises(KitsamError, match="kitsam weights lite_medsam"):
        session.label_box({"box": box_around(scan, right=True)})


def test_labelling_can_be_stopped_between_slices(session, scan):
    work = session._work(None)
    work.add(0.5)
    assert session.progress() == "5 of at most 10 slices"
    session.stop()
    with pytest.raises(Stopped, match="as they were"):
        work.add(0.5)
    session.label_box({"box": box_around(scan, right=True)})
    assert session.label.any()
