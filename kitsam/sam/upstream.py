"""The one place that imports segment_anything.

Its package imports torchvision, for transforms that kitsam never calls. Beside a CPU build of torch, PyPI's torchvision
cannot load its compiled operators, and its import fails with "operator torchvision::nms does not exist". Declaring the
missing operators is enough to get past that, but only after a first import has failed: a torchvision that fits declares
them itself, and a name can be declared only once. Cost: importing this module takes seconds.
"""

import importlib
import importlib.metadata
import sys

import torch

from kitsam.system.errors import KitsamError

# The operators that torchvision registers with torch even where its compiled part is absent.
_SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


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


_import_torchvision()

from segment_anything import sam_model_registry  # noqa: E402
from segment_anything.modeling import (  # noqa: E402
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    TwoWayTransformer,
)

__all__ = ["ImageEncoderViT", "MaskDecoder", "PromptEncoder", "TwoWayTransformer", "sam_model_registry"]
