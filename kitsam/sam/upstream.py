"""The one place that imports segment_anything.

Its package imports torchvision, for transforms that kitsam never calls: two seconds of each command's start, and an
error beside a torch of another build. So only its networks are imported here; the rest of the package follows when
somebody asks for it. Beside a CPU build of torch, PyPI's torchvision cannot load its compiled operators, and its import
fails with "operator torchvision::nms does not exist". Declaring the missing operators is enough to get past that, but
only after a first import has failed: a torchvision that fits declares them itself, and a name can be declared only
once.
"""

import importlib
import importlib.metadata
import sys
from importlib.util import find_spec, module_from_spec
from typing import Any

import torch

from kitsam.system.errors import KitsamError

PACKAGE = "segment_anything"
# The operators that torchvision registers with torch even where its compiled part is absent.
_SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def _defer_package() -> None:
    """Let the package's modules be imported without what its `__init__` imports, which then runs on demand."""
    spec = find_spec(PACKAGE)
    package = module_from_spec(spec)

    def load(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        del package.__getattr__
        _import_torchvision()
        spec.loader.exec_module(package)
        return getattr(package, name)

    package.__getattr__ = load
    sys.modules[PACKAGE] = package


def _import_torchvision() -> None:
    """Import torchvision with or without its compiled operators. Raises `KitsamError` when neither works."""
    try:
        importlib.import_module("torchvision")
        return
    except RuntimeError:
        # Submodules that were imported already would be missing as attributes of the package after a second import.
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        for operator, schema in _SCHEMAS.items():
            if not hasattr(torch.ops.torchvision, operator):
                torch.library.define(f"torchvision::{operator}", schema)
    except (ImportError, AttributeError, OSError) as error:
        raise _mismatch(error) from error
    try:
        importlib.import_module("torchvision")
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        raise _mismatch(error) from error


def _mismatch(error: Exception) -> KitsamError:
    try:
        version = importlib.metadata.version("torchvision")
    except importlib.metadata.PackageNotFoundError:
        return KitsamError("torchvision is not installed: segment_anything needs the one that belongs to your torch")
    reason = str(error).strip().split("\n")[0]
    return KitsamError(
        f"torchvision {version} does not work with torch {torch.__version__}: install the two that belong together "
        f"({reason})"
    )


if PACKAGE not in sys.modules:
    _defer_package()

from segment_anything.build_sam import sam_model_registry  # noqa: E402
from segment_anything.modeling import (  # noqa: E402
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    TwoWayTransformer,
)

__all__ = ["ImageEncoderViT", "MaskDecoder", "PromptEncoder", "TwoWayTransformer", "sam_model_registry"]
