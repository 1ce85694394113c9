"""`kitsam bench cascade` on a small label map."""

import json

import numpy as np
import pytest

from kitsam.bench import cascade
from kitsam.bench.evaluator import _save
from kitsam.cli import main
from kitsam.ct.labels import CYST, KIDNEY, TUMOR

SPACING = (5.0, 1.8, 1.8)


@pytest.fixture
def labels() -> np.ndarray:
    """Two boxes of kidney with a tumor, a cyst and a hole, and a speck."""
    volume = np.zeros((12, 64, 60), np.uint8)
    volume[2:10, 20:40, 8:24] = volume[2:10, 20:40, 36:52] = KIDNEY
    volume[4:8, 24:34, 10:20], volume[3:6, 22:30, 40:48] = TUMOR, CYST
    volume[5, 35:37, 12:14], volume[7, 36, 44], volume[1, 60, 2] = 0, TUMOR, KIDNEY
    return volume


def test_both_ways_give_the_same_labels_and_boxes(labels):
    own, stock = (way(labels, SPACING) for way in (cascade.kitsam_way, cascade.scipy_way))
    assert np.array_equal(own[0], stock[0]) and np.array_equal(own[1], stock[1])
    assert len(own[1]) == 16 and own[0][5, 35, 12] == own[0][7, 36, 44] == KIDNEY and not own[0][1].any()


def test_the_figures_are_kept(labels, tmp_path, capsys):
    _save(tmp_path / "labels.nii.gz", labels, SPACING)
    path = tmp_path / "figures.json"
    options = ["--labels", tmp_path / "labels.nii.gz", "--slices", 30, "--json", path]
    assert main(["bench", "cascade", *map(str, options)]) == 0
    figures = json.loads(path.read_text())
    assert figures["benchmark"] == "cascade" and figures["shape"] == [30, 64, 60]
    for kind in ("rendered", "corners"):
        assert figures[kind]["ratio"] == pytest.approx(figures[kind]["scipy_ms"] / figures[kind]["kitsam_ms"])
    assert "ratio" in capsys.readouterr().out
