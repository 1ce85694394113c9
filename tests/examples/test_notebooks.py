"""The example notebooks, run cell by cell as plain Python, with less data and fewer steps than they have."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kitsam.inference import bundle
from kitsam.inference.card import read_bundle_header
from kitsam.inference.config import BundleConfig, CascadeConfig

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
KIDNEY_COLOR = (0x2F, 0xD6, 0xB5)

# What IPython makes of a line that begins with `!`; here in one process, so that torch is imported once.
SHELL = """
import shlex
from kitsam.cli import main
def shell(line):
    assert main(shlex.split(line)[1:]) == 0, line
"""


def cells_of(path: Path) -> list[dict]:
    """The code cells."""
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def sources_of(path: Path) -> list[str]:
    sources = ["".join(cell["source"]) for cell in cells_of(path)]
    return [re.sub(r"^!(.*)$", r"shell(rf'''\1''')", source, flags=re.MULTILINE) for source in sources]


def run_cells(cells: list[str], folder: Path) -> str:
    """What they print."""
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    command = [sys.executable, "-c", "\n".join([SHELL, *cells])]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_there_is_one_for_each_way_to_use_kitsam():
    assert [path.stem for path in NOTEBOOKS] == ["predict", "shards", "train"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_stored_as_it_ran_and_the_first_cell_says_what_to_set(path):
    cells = cells_of(path)
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not any(output["output_type"] == "error" for output in outputs)
    assert "\x1b" not in json.dumps(outputs) and not re.search(r"/(home|root|tmp)/", json.dumps(outputs))
    assert "Path(" in "".join(cells[0]["source"]) and not cells[0]["outputs"]


def test_predict_runs_from_a_ct_and_a_bundle_to_a_picture(data, runs, tmp_path):
    # Decoders trained for six steps are unsure: low thresholds make them say something.
    cascade = CascadeConfig(roi_threshold=0.3, lesion_threshold=0.9, smallest_roi=0.01, smallest_lesion=0.0)
    bundle.run(BundleConfig(runs["roi"], tmp_path / "model.safetensors", runs["tumor"], runs["cyst"], cascade))
    places = {"CT": data / "case_00000" / "imaging.nii.gz", "MODEL": "model.safetensors", "OUT": "out"}
    first = "".join(f"{name} = Path({str(path)!r})\n" for name, path in places.items())
    _, *cells = sources_of(EXAMPLES / "predict.ipynb")
    said = run_cells(["from pathlib import Path", first, *cells, "figure.savefig('picture.png')"], tmp_path)
    assert "kidney: " in said and (tmp_path / "out" / "case_00000.nii.gz").is_file()
    pixels = np.asarray(Image.open(tmp_path / "picture.png").convert("RGB")).astype(int)
    assert (np.abs(pixels - KIDNEY_COLOR).max(axis=-1) < 30).sum() > 50


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, str]:
    """The folder in which the notebook about training ran, and what it said."""
    folder = tmp_path_factory.mktemp("notebooks")
    first, *cells = sources_of(EXAMPLES / "train.ipynb")
    less = 'STEPS = {"roi": 2, "tumor": 2}\nENCODER = "--encoder.name tiny --encoder.input_size 64"'
    cells = [cell.replace("--cases 8 --size 128 --slices 20", "--cases 3 --size 64 --slices 6") for cell in cells]
    return folder, run_cells([first, less, *cells], folder)


def test_train_runs_from_cases_to_a_model_with_its_card(trained):
    folder, said = trained
    (evaluation,) = read_bundle_header(folder / "example" / "kidney.safetensors").card.evaluations
    assert evaluation.decoders == {"roi": 1, "tumor": 1} and evaluation.phantoms == evaluation.cases
    assert "[0 1 1 0 2]" in said and "kidney_and_masses_Dice" in said


def test_shards_are_read_by_torch_and_by_stock_webdataset(trained):
    folder, _ = trained
    said = run_cells(sources_of(EXAMPLES / "shards.ipynb"), folder)
    assert "embeddings (8, 256, 4, 4) torch.float16" in said
    first, last = map(float, re.search(r"loss (\S+) -> (\S+)", said).groups())
    assert last < first
    assert re.search(r"^case_\S+ \(256, 4, 4\) float16 \(64, 64\) \w+$", said, re.MULTILINE)
