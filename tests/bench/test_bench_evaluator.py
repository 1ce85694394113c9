"""`kitsam bench evaluator` on two small cases."""

import json

import numpy as np
import pytest

from kitsam.bench import evaluator
from kitsam.cli import main
from kitsam.ct.labels import CYST, KIDNEY, TUMOR


@pytest.fixture
def labels(tmp_path):
    """A folder with one label map: two boxes of kidney, with a tumor and a cyst."""
    volume = np.zeros((12, 64, 60), np.uint8)
    volume[2:10, 20:40, 8:24] = volume[2:10, 20:40, 36:52] = KIDNEY
    volume[4:8, 24:34, 10:20], volume[3:6, 22:30, 40:48] = TUMOR, CYST
    evaluator._save(tmp_path / "labels" / "case_00021.nii.gz", volume, (5.0, 0.8, 0.8))
    return tmp_path / "labels"


def test_both_ways_agree_and_the_figures_are_kept(labels, tmp_path, capsys):
    path = tmp_path / "figures.json"
    options = ["--data", labels, "--cases", 2, "--slices", 30, "--workers", 1, "--work", tmp_path, "--json", path]
    assert main(["bench", "evaluator", *map(str, options)]) == 0
    figures = json.loads(path.read_text())
    assert (figures["benchmark"], figures["processes"], figures["cases"]) == ("evaluator", 1, 2)
    for kind in ("rendered", "corners"):
        assert figures[kind]["largest_difference"] < 1e-6
        assert figures[kind]["ratio"] == pytest.approx(
            figures[kind]["official_seconds"] / figures[kind]["kitsam_seconds"]
        )
        assert figures[kind]["kitsam_peak_bytes"] > 1 << 20
    assert "ratio" in capsys.readouterr().out
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["figures.json", "labels"]


def test_a_rendered_prediction_is_neither_right_nor_far_off():
    truth = np.zeros((40, 64, 64), np.uint8)
    truth[2:38, 20:44, 20:44], truth[10:30, 24:36, 24:36], truth[2:6, 24:40, 24:40] = KIDNEY, TUMOR, TUMOR
    prediction = evaluator.rendered_prediction(truth, 0)
    kidney = (
        2 * np.count_nonzero((truth > 0) & (prediction > 0)) / (np.count_nonzero(truth) + np.count_nonzero(prediction))
    )
    assert 0.7 < kidney < 1 and (prediction == TUMOR).any()
    assert not (prediction[:8] > KIDNEY).any()


def test_without_the_reference_package_one_line_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(evaluator, "find_spec", lambda name: None)
    assert main(["bench", "evaluator"]) == 1
    assert capsys.readouterr().err.strip() == (
        "kitsam bench evaluator: error: the official way needs the package surface-distance: pip install 'kitsam[test]'"
    )


def test_a_folder_without_label_maps_names_the_option(tmp_path, capsys):
    assert main(["bench", "evaluator", "--data", str(tmp_path)]) == 2
    assert "--data: no label map" in capsys.readouterr().err
