import json
import subprocess
import sys

import numpy as np
import pytest
from tiny_scans import save

from kitsam.ct.config import FingerprintConfig
from kitsam.ct.fingerprint import run
from kitsam.system.errors import OptionError

AFFINE = np.array([[0, 0, -8.0, 0], [0, -8.0, 0, 0], [-5.0, 0, 0, 0], [0, 0, 0, 1]])  # 40 pixels of 8 mm: a body


def write_case(data, name, labels, hu=None, shape=(3, 40, 40), affine=AFFINE):
    """A case whose first voxels have the given labels; HU is 100 times the label unless given, air elsewhere."""
    label = np.zeros(shape, np.uint8)
    label.flat[: len(labels)] = labels
    image = np.where(label > 0, 100 * label.astype(np.int16), -1000).astype(np.int16) if hu is None else hu
    save(data / name / "imaging.nii.gz", image, affine)
    save(data / name / "segmentation.nii.gz", label, affine)


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    write_case(folder, "case_00000", [1] * 60 + [2] * 30 + [3] * 10)
    write_case(folder, "case_00001", [1] * 100)
    return folder


def fingerprint_of(data, out):
    code = run(FingerprintConfig(data, out))
    return code, json.loads((out / "fingerprint.json").read_text())


def test_counts_volumes_and_weights_come_from_the_labels(data, tmp_path):
    code, found = fingerprint_of(data, tmp_path / "out")

    assert code == 0
    assert (found["cases"], found["slices"]) == (2, 6)
    assert found["in_plane_sizes"] == {"40x40": 2}
    assert found["strata"] == {"background": 4, "kidney": 1, "tumor": 0, "cyst": 0, "tumor_cyst": 1}
    assert found["voxels"] == {"background": 9400, "kidney": 160, "tumor": 30, "cyst": 10}
    assert found["cases_with"] == {"kidney": 2, "tumor": 1, "cyst": 1}
    assert found["volume_ml"]["tumor"]["median"] == pytest.approx(30 * 5 * 8 * 8 / 1000)
    assert found["negative_ratio"] == pytest.approx({"roi": 47, "tumor": 170 / 30, "cyst": 19}, rel=1e-4)
    assert found["positive_weight"] == pytest.approx(
        {"roi": 47**0.5, "tumor": (170 / 30) ** 0.5, "cyst": 19**0.5}, rel=1e-4
    )


def test_percentiles_are_those_of_all_voxels_of_a_class_together(tmp_path):
    values = []
    for seed in range(3):
        hu = np.random.default_rng(seed).normal(100, 60, (3, 40, 40)).round().astype(np.int16)
        values.append(hu.flat[:500])
        write_case(tmp_path / "data", f"case_{seed:05d}", [1] * 500, hu)

    found = fingerprint_of(tmp_path / "data", tmp_path / "out")[1]["hu"]

    everything = np.concatenate(values)
    expected = np.percentile(everything, [0.5, 5, 50, 95, 99.5], method="inverted_cdf")
    keys = ("percentile_00_5", "percentile_05_0", "percentile_50_0", "percentile_95_0", "percentile_99_5")
    assert [found["kidney"][key] for key in keys] == expected.tolist()
    assert found["kidney"]["mean"] == pytest.approx(everything.mean(), rel=1e-3)
    assert found["foreground"] == found["kidney"]
    assert found["tumor"] is None


def test_the_picture_and_the_table_are_made_and_named(data, tmp_path, capsys):
    run(FingerprintConfig(data, tmp_path / "out"))

    assert (tmp_path / "out" / "fingerprint.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "fingerprint.json" in printed and "fingerprint.png" in printed
    assert "tumor_cyst" in printed


def test_a_bad_case_is_left_out_and_listed_and_the_exit_code_says_so(data, tmp_path, capsys):
    (data / "case_00001" / "imaging.nii.gz").write_bytes(b"broken")

    code, found = fingerprint_of(data, tmp_path / "out")

    assert code == 1
    assert found["cases"] == 1
    assert "cannot be read" in found["left_out"]["case_00001"]
    printed = capsys.readouterr()
    assert "case_00001" in printed.out and "case_00001 is left out" in printed.err


def test_a_data_set_without_one_usable_case_is_refused(data, tmp_path):
    for name in ("case_00000", "case_00001"):
        (data / name / "segmentation.nii.gz").unlink()

    with pytest.raises(OptionError, match="DATA: no usable case"):
        run(FingerprintConfig(data, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"labels": []}, "no kidney"),
        ({"labels": [1], "shape": (3, 40, 52)}, "slices of 40x52 pixels, most have 40x40"),
        ({"labels": [1], "hu": np.full((3, 40, 40), 1024, np.int16)}, "without rescale slope"),
        ({"labels": [1], "affine": AFFINE * [[1], [1], [4], [1]]}, "20 mm between slices, usual are 0.4 to 6"),
        (
            {"labels": [1], "affine": AFFINE * [[0.1], [0.1], [1], [1]]},
            "view of 32 x 32 mm, usual are 190 to 560",
        ),
        ({"labels": [1], "affine": AFFINE * [[1], [1.2], [1], [1]]}, "pixels are not square"),
    ],
)
def test_what_differs_from_the_rest_is_listed_as_an_outlier(data, tmp_path, capsys, settings, complaint):
    write_case(data, "case_00002", **settings)

    code, found = fingerprint_of(data, tmp_path / "out")

    assert code == 0
    assert list(found["outliers"]) == ["case_00002"]
    assert complaint in " ".join(found["outliers"]["case_00002"])
    assert complaint in capsys.readouterr().out


def test_it_is_written_to_a_folder_named_for_the_data(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(FingerprintConfig(data))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "fingerprint-data"]
    assert (tmp_path / "fingerprint-data" / "fingerprint.json").is_file()


def test_importing_the_command_does_not_import_matplotlib():
    program = "import sys, kitsam.ct.fingerprint; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
