"""Is the answer one that a scan of kidneys can have? What speaks against it is a warning, never a refusal.

It looks at the answer and at the scan beside it: a model says something of every scan, also of a head, an MR, or a CT
whose numbers are not HU.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from kitsam.ct.body import find_body
from kitsam.ct.labels import KIDNEY
from kitsam.inference.measures import TISSUE, Finding

# mL. Adult kidneys have 100 to 250 (Cheong et al., Clin J Am Soc Nephrol 2007); shrunken ones and polycystic ones lie
# beyond that. A kidney without its masses counts for the upper bound, with them for the lower one.
KIDNEY_ML = (50.0, 600.0)
KIDNEY_HU = (0.0, 350.0)  # median: some 30 without contrast, up to 250 in the arterial phase
MOST_MASSES_ML = 3000.0  # of a side; the largest tumor of KiTS23 has 2,591
PART_ML = 20.0  # from which a part is a kidney: less may be a piece of one
BODY_MM = (200.0, 700.0)  # width: heads have some 160, adults' trunks 280 to 500; with arms it fits into the scanner
BODY_SLICES = 15  # on which it is measured
LEAST_NEGATIVE = 0.05  # of the voxels: fat and air have less than 0 HU
LUNG = (-920.0, -500.0)  # HU
MUCH_LUNG = 0.3  # for each voxel of tissue; in a chest more than half, at the upper end of a kidney less than a tenth
FULL_EDGE = 0.5  # of an edge of the slices that is tissue, from which the scan cuts through the body


def doubts_of_answer(
    voxels: np.ndarray,  # (S, H, W) float32 HU
    spacing: tuple[float, float, float],  # mm between slices, rows, columns
    label: np.ndarray,  # (S, H, W) uint8
    kidneys: Sequence[Finding],
    lesions: Sequence[Finding],
) -> list[str]:
    """What is not plausible, in words; nothing where all is as it should be."""
    of_scan = [*_of_body(voxels, spacing, label)]
    if not kidneys:
        nothing = "no kidney was found: another part of the body, or a scan unlike those the model has learned from"
        return [nothing, *of_scan]
    return [
        *_of_kidneys(kidneys, lesions),
        *_of_intensities(voxels, label),
        *_of_lungs(voxels, label),
        *_of_edges(label),
        *of_scan,
    ]


def _of_kidneys(kidneys: Sequence[Finding], lesions: Sequence[Finding]) -> Iterator[str]:
    large = [one for one in kidneys if one.volume_ml >= PART_ML]
    if len(large) > 2:
        yield f"{len(large)} kidneys were found, of {', '.join(f'{one.volume_ml:.0f}' for one in large)} mL"
    least, most = KIDNEY_ML
    for side in dict.fromkeys(one.side for one in kidneys):
        kidney, masses = (sum(one.volume_ml for one in some if one.side == side) for some in (kidneys, lesions))
        name = f"the {side} kidney" if side != "unclear" else "a kidney of unclear side"
        if kidney > most:
            yield f"{name} has {kidney:.0f} mL, more than {most:.0f}"
        elif kidney + masses < least:
            yield f"{name} has {kidney + masses:.0f} mL with its masses, less than {least:.0f}"
        if masses > MOST_MASSES_ML:
            yield f"the masses of {name} have {masses:.0f} mL, more than {MOST_MASSES_ML:.0f}"


def _of_intensities(voxels: np.ndarray, label: np.ndarray) -> Iterator[str]:
    kidney = np.concatenate([plane[mask == KIDNEY] for plane, mask in zip(voxels, label)])
    if not len(kidney):
        return
    median, (least, most) = float(np.median(kidney)), KIDNEY_HU
    if not least <= median <= most:
        yield f"what was found has {median:.0f} HU (median), no kidney's {least:.0f} to {most:.0f}: is it CT, in HU?"


def _of_lungs(voxels: np.ndarray, label: np.ndarray) -> Iterator[str]:
    slices = np.flatnonzero(label.any(axis=(1, 2)))
    least, most = LUNG
    lung = sum(np.count_nonzero((voxels[z] > least) & (voxels[z] < most)) for z in slices)
    tissue = sum(np.count_nonzero(voxels[z] > TISSUE) for z in slices)
    if lung > MUCH_LUNG * tissue:
        yield f"the slices in which it was found hold lungs, {lung / (lung + tissue):.0%} of the body: a chest?"


def _of_edges(label: np.ndarray) -> Iterator[str]:
    ends = [name for name, plane in (("upper", label[0]), ("lower", label[-1])) if plane.any()]
    if ends:
        yield f"what was found is cut by the scan's {' and '.join(ends)} end: the volumes are of what is in the scan"
    if any(label[:, rows, columns].any() for rows, columns in _EDGES.values()):
        yield "what was found reaches the edge of the slices"


# Rows and columns of the edges of a slice.
_EDGES = {
    "front": (0, slice(None)), "back": (-1, slice(None)), "right": (slice(None), 0), "left": (slice(None), -1),
}  # fmt: skip


def _of_body(voxels: np.ndarray, spacing: tuple[float, float, float], label: np.ndarray) -> Iterator[str]:
    if np.mean([np.mean(plane < 0) for plane in voxels]) < LEAST_NEGATIVE:
        return  # no HU, so that nobody sees where the body ends; `ct/doubts.py` has told of it
    cut = _cut_edges(voxels, label)
    if cut:
        yield f"the scan is cropped: the body goes on beyond its {', '.join(cut)} edge"
    width, (least, most) = _body_width(voxels, spacing), BODY_MM
    if width > most:
        yield f"the body is {width:.0f} mm wide: are the lengths in mm?"
    elif width < least and not {"left", "right"} & {*cut}:
        yield f"the body is {width:.3g} mm wide: a head, a limb or a small child? Or are the lengths not in mm?"


def _cut_edges(voxels: np.ndarray, label: np.ndarray) -> list[str]:
    """Of the slices in which something was found; of all, where nothing was."""
    slices = np.flatnonzero(label.any(axis=(1, 2)))
    middle = slice(slices[0], slices[-1] + 1) if len(slices) else slice(None)
    return [
        name for name, (rows, columns) in _EDGES.items() if np.mean(voxels[middle, rows, columns] > TISSUE) > FULL_EDGE
    ]


def _body_width(voxels: np.ndarray, spacing: tuple[float, float, float]) -> float:
    """mm, the median of some slices."""
    some = voxels[:: -(-len(voxels) // BODY_SLICES)]
    boxes = [find_body(plane[None], spacing[1:]) for plane in some]
    return float(np.median([box.right - box.left for box in boxes])) * spacing[2]
