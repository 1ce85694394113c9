"""What a slice holds, and how rare each class is.

Every slice belongs to exactly one of five strata; training draws a fixed share of each batch from each. The class
balance of a decoder is the ratio of negative voxels to positive ones: negative is everything else for the ROI decoder,
but only the rest of the kidneys and masses for a lesion decoder, whose boxes lie around them.
"""

from collections.abc import Sequence

from kitsam.ct.labels import CYST, TUMOR, Target

STRATA = ("background", "kidney", "tumor", "cyst", "tumor_cyst")
POSITIVE_BALANCE = 0.5  # exponent on the negative:positive ratio that weighs positive pixels, if no option sets it


def stratum_of(pixels: Sequence[int]) -> str:
    """The stratum of a slice from its pixels per class (background, kidney, tumor, cyst)."""
    if pixels[TUMOR] and pixels[CYST]:
        return "tumor_cyst"
    if pixels[TUMOR]:
        return "tumor"
    if pixels[CYST]:
        return "cyst"
    return "kidney" if sum(pixels[1:]) else "background"


def strata_for(target: Target) -> tuple[str, ...]:
    """The strata that a decoder trains on: a slice without a kidney has no box for a lesion decoder."""
    return STRATA if target == "roi" else tuple(stratum for stratum in STRATA if stratum != "background")


def negative_ratio(voxels: Sequence[int], target: Target) -> float:
    """Negative voxels per positive one for the decoder `target` (roi, tumor, cyst), from voxels per class.

    1.0 where the data have no positive voxel.
    """
    roi = sum(voxels[1:])
    positive = {"roi": roi, "tumor": voxels[TUMOR], "cyst": voxels[CYST]}[target]
    total = sum(voxels) if target == "roi" else roi
    return (total - positive) / positive if positive else 1.0
