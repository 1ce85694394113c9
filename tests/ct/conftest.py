from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from tiny_scans import draw, save


class Scan(NamedTuple):
    """A tiny case, and the folder of cases that it stands in."""

    data: Path
    imaging: Path
    segmentation: Path
    image: np.ndarray
    label: np.ndarray


@pytest.fixture
def scan(tmp_path) -> Scan:
    image, label = draw()
    folder = tmp_path / "data" / "case_00000"
    imaging, segmentation = save(folder / "imaging.nii.gz", image), save(folder / "segmentation.nii.gz", label)
    return Scan(tmp_path / "data", imaging, segmentation, image, label)
