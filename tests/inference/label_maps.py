"""Label maps on disk."""

from pathlib import Path

import nibabel as nib
import numpy as np


def labels(path: Path) -> np.ndarray:
    return np.asanyarray(nib.load(path).dataobj)
