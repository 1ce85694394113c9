"""The example notebook, run cell by cell as plain Python."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kitsam.inference import bundle
from kitsam.inference.config import BundleConfig, CascadeConfig

NOTEBOOK = Path(__file__).parents[2] / "examples" / "predict.ipynb"
KIDNEY_COLOR = (0x2F, 0xD6, 0xB5)


@pytest.fixture(scope="module")
def cells() -> list[str]:
    """The source of the code cells."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_no_outputs_are_stored_and_the_first_cell_says_what_to_set(cells):
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook["cells"])
    assert all(f"\n{name} = Path(" in cells[0] for name in ("CT", "MODEL", "OUT"))


def test_it_runs_from_a_ct_and_a_bundle_to_a_picture(cells, data, runs, tmp_path):
    # Decoders trained for six steps are unsure: low thresholds make them say something.
    cascade = CascadeConfig(roi_threshold=0.3, lesion_threshold=0.9, smallest_roi=0.01, smallest_lesion=0.0)
    assert bundle.run(BundleConfig(runs["roi"], tmp_path / "model.safetensors", runs["tumor"], runs["cyst"], cascade)) == 0
    places = {"CT": data / "case_00000" / "imaging.nii.gz", "MODEL": tmp_path / "model.safetensors", "OUT": tmp_path / "out"}
    first = "from pathlib import Path\n" + "".join(f"{name} = Path({str(path)!r})\n" for name, path in places.items())
    picture = tmp_path / "picture.png"
    script = "\n".join([first, *cells[1:], f"figure.savefig({str(picture)!r})"])
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    done = subprocess.run([sys.executable, "-c", script], check=False, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "kidney: " in done.stdout and (tmp_path / "out" / "case_00000.nii.gz").is_file()
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    assert (np.abs(pixels - KIDNEY_COLOR).max(axis=-1) < 30).sum() > 50
