import numpy as np
import pytest
from two_kidneys import kidney_image, kidney_labels


@pytest.fixture(scope="session")
def labels() -> np.ndarray:
    return kidney_labels()


@pytest.fixture(scope="session")
def image(labels) -> np.ndarray:
    return kidney_image(labels)
