"""kitsam: the Segment Anything Model finds kidneys, tumors and cysts in CT.

From Python: `kitsam.load_model`, `kitsam.score`, `kitsam.open_shards` (`kitsam/api.py`). They are imported when they
are first used, since torch takes seconds.
"""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kitsam.api import Model, Prediction, load_model, open_shards, score
    from kitsam.system.errors import CaseError, KitsamError, OptionError, ShardError

__version__ = "0.2.0"

if sys.platform == "darwin":
    # Before torch is imported: what Apple's GPU cannot compute is computed on the CPU, and is no error.
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")

_PLACES = {
    **dict.fromkeys(("Model", "Prediction", "load_model", "open_shards", "score"), "kitsam.api"),
    **dict.fromkeys(("CaseError", "KitsamError", "OptionError", "ShardError"), "kitsam.system.errors"),
}
__all__ = [  # noqa: RUF022  as in a manual
    "load_model", "score", "open_shards", "Model", "Prediction",
    "KitsamError", "OptionError", "CaseError", "ShardError",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'kitsam' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
