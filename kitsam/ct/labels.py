"""The classes of KiTS's labels, and which of them each decoder must find."""

from typing import Any, Literal

BACKGROUND, KIDNEY, TUMOR, CYST = 0, 1, 2, 3
CLASS_NAMES = ("background", "kidney", "tumor", "cyst")

Target = Literal["roi", "tumor", "cyst"]
TARGETS: tuple[Target, ...] = ("roi", "tumor", "cyst")
TARGET_CLASSES: dict[Target, tuple[int, ...]] = {"roi": (KIDNEY, TUMOR, CYST), "tumor": (TUMOR,), "cyst": (CYST,)}


def target_mask(label: Any, target: Target) -> Any:
    """Labels, an array or tensor of any shape -> bool of the same shape: what the decoder `target` must find."""
    return label > BACKGROUND if target == "roi" else label == TARGET_CLASSES[target][0]
