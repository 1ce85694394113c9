from pathlib import Path

import pytest

from kitsam.inference import bundle
from kitsam.inference.config import BundleConfig, CascadeConfig


@pytest.fixture(scope="session")
def model(runs, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    # Decoders trained for six steps are unsure: low thresholds make them say something.
    cascade = CascadeConfig(roi_threshold=0.3, lesion_threshold=0.2, smallest_roi=0.01, smallest_lesion=0.0)
    assert bundle.run(BundleConfig(runs["roi"], path, runs["tumor"], runs["cyst"], cascade)) == 0
    return path


@pytest.fixture
def ct(data) -> Path:
    return data / "case_00000" / "imaging.nii.gz"
