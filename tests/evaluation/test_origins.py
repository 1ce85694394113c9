"""What is said of the origin of scored cases, and beside which of them the paper may stand."""

import nibabel as nib
import numpy as np
import pytest

from kitsam.ct.case import find_cases
from kitsam.evaluation.metrics import score_case
from kitsam.evaluation.origins import count_origins, is_like_the_papers, origins_text
from kitsam.phantom.cases import run
from kitsam.phantom.config import PhantomConfig


def test_cases_are_counted_by_their_origin(tmp_path):
    run(PhantomConfig(tmp_path, cases=2, size=48, slices=8))
    labels = np.zeros((8, 48, 48), np.uint8)
    labels[2:5, 10:20, 10:20] = 1
    for file in ("imaging", "segmentation"):
        (tmp_path / "case_00007").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / "case_00007" / f"{file}.nii.gz")
    scores = dict.fromkeys(
        ["case_00000", "case_00001", "case_00007", "elsewhere"], score_case(labels, labels, (1,) * 3)
    )
    origins = count_origins(find_cases(tmp_path), scores)
    assert origins == {"drawn": 2, "scan": 1, "unknown": 1}
    text = origins_text(origins)
    assert text.startswith(
        "2 drawn cases, no scans of patients; 1 scan that is no whole case of KiTS23; 1 case of unkn"
    )


def test_labels_of_a_case_of_kits23_are_known_whatever_the_spacing(tmp_path, monkeypatch):
    from kitsam.ct import origin

    labels = np.zeros((8, 48, 48), np.uint8)
    labels[2:5, 10:20, 10:20] = 1
    labels[3, 12:15, 12:15] = 2
    known = frozenset([origin.kits23_digest("case_00003", (291, 9, 0))])
    monkeypatch.setattr(origin, "_kits23_digests", lambda: known)
    (tmp_path / "case_00003").mkdir()
    for file in ("imaging", "segmentation"):
        image = nib.Nifti1Image(labels, np.diag([2.5, 0.781, 0.781, 1]))
        nib.save(image, tmp_path / "case_00003" / f"{file}.nii.gz")
    scores = {"case_00003": score_case(labels, labels, (2.5, 0.781, 0.781))}
    assert count_origins(find_cases(tmp_path), scores) == {"kits23": 1}


@pytest.mark.parametrize(
    ("origins", "settings", "like"),
    [
        ({"kits23": 49}, {}, True),
        ({"kits23": 49}, {"zero_shot": True}, False),
        ({"kits23": 48, "scan": 1}, {}, False),
        ({"rendered": 3}, {}, False),
        ({"unknown": 3}, {}, False),
        ({}, {}, False),
    ],
)
def test_the_paper_stands_beside_cases_of_kits23_alone_and_not_beside_answers_to_true_boxes(origins, settings, like):
    assert is_like_the_papers(settings, origins) is like
