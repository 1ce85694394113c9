"""Importing segment_anything, each time in a fresh process: a failed import leaves traces in its own."""

import os
import subprocess
import sys
from pathlib import Path

STAND_IN = {
    "torchvision/__init__.py": "import torch\nimport torchvision.extension\n",
    "torchvision/extension.py": "import torch\ntorch.library.define('torchvision::nms', '(Tensor boxes) -> Tensor')\n",
    "torchvision/transforms/__init__.py": "",
    "torchvision/transforms/functional.py": "resize = to_pil_image = None\n",
    "torchvision/ops/__init__.py": "",
    "torchvision/ops/boxes.py": "batched_nms = box_area = None\n",
}


def _python(code: str, path: Path | None = None) -> subprocess.CompletedProcess:
    paths = [str(path)] if path else []
    paths += [os.environ["PYTHONPATH"]] if "PYTHONPATH" in os.environ else []
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(paths))
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=120)


def _write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_upstream_imports_beside_the_installed_torch():
    result = _python(
        "from kitsam.sam import upstream\n"
        "upstream.TwoWayTransformer(1, 16, 2, 16)\n"
        "print(*sorted(upstream.sam_model_registry))\n"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["default", "vit_b", "vit_h", "vit_l"]


def test_a_torchvision_that_declares_its_operators_keeps_its_own(tmp_path):
    code = "import kitsam.sam.upstream, torch\nprint(torch.ops.torchvision.nms.default._schema)\n"
    result = _python(code, _write(tmp_path, STAND_IN))
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "torchvision::nms(Tensor boxes) -> Tensor"


def test_a_torchvision_that_cannot_be_imported_is_one_line_about_the_pair(tmp_path):
    broken = {"torchvision/__init__.py": "raise RuntimeError('operator torchvision::roi_pool does not exist\\nmore')\n"}
    code = (
        "from kitsam.system.errors import KitsamError\n"
        "try:\n    import kitsam.sam.upstream\nexcept KitsamError as error:\n    print(error)\n"
    )
    result = _python(code, _write(tmp_path, broken))
    lines = result.stdout.splitlines()
    assert result.returncode == 0, result.stderr
    assert len(lines) == 1
    assert "does not work with torch" in lines[0] and "roi_pool" in lines[0]
