"""A case to leaf through: CT slices under the outlines of truth and prediction.

Each slice is a small JPEG and a few SVG paths, so that outlines stay sharp at any size and can be switched off. A case
takes some 10 KB a slice, of which there are at most `MOST_FRAMES`; `report.js` puts one of them into view.
"""

from io import BytesIO
from typing import NamedTuple

import numpy as np
from contourpy import LineType, contour_generator
from PIL import Image

from kitsam.ct.case import Case
from kitsam.pictures.overlay import OUTLINES, WINDOW, choose_slices, crop

MOST_FRAMES = 60
LONGEST_SIDE = 400  # pixels of a JPEG
JPEG_QUALITY = 78


class Frame(NamedTuple):
    """One slice; a list in the page's JSON."""

    jpeg: bytes
    caption: str
    paths: dict[str, list[str]]  # SVG paths by side: truth, and prediction if there is one; in the order of OUTLINES


class Viewer(NamedTuple):
    """What a case's slider moves through."""

    frames: list[Frame]
    first: int  # index of the frame that tells most
    jumps: dict[int, str]  # index of a frame -> what it is worth seeing for
    size: tuple[int, int]  # height and width of a frame in voxels
    spacing: tuple[float, float]  # mm between its rows and columns


def view(case: Case, prediction: np.ndarray | None) -> Viewer:
    """The slices of a labeled case from the first labeled one to the last. `prediction`: (S, H, W) labels."""
    volumes = {"truth": case.label} if prediction is None else {"truth": case.label, "prediction": prediction}
    chosen = choose_slices(prediction, case.label, len(case.image))
    labeled = np.flatnonzero(np.any([volume.any(axis=(1, 2)) for volume in volumes.values()], axis=0))
    first, last = (labeled[0], labeled[-1]) if len(labeled) else (0, len(case.image) - 1)
    spread = np.linspace(first, last, min(last - first + 1, MOST_FRAMES)).round().astype(int).tolist()
    slices = sorted({*spread, *chosen})
    box = crop(np.any([volume.any(axis=0) for volume in volumes.values()], axis=0), case.spacing[1:])
    frames = [_frame(case, volumes, z, box) for z in slices]
    jumps = {slices.index(z): reason for z, reason in sorted(chosen.items())}
    # Of the slices chosen the first is the one that tells most.
    return Viewer(frames, slices.index(next(iter(chosen))), jumps, case.image[0][box].shape, case.spacing[1:])


def _frame(case: Case, volumes: dict[str, np.ndarray], z: int, box: tuple[slice, slice]) -> Frame:
    paths = {
        side: [outline_path(np.isin(volume[z][box], classes)) for classes, _, _ in OUTLINES]
        for side, volume in volumes.items()
    }
    return Frame(_jpeg(case.image[z][box], case.spacing[1:]), f"slice {z + 1} of {len(case.image)}", paths)


def _jpeg(image: np.ndarray, spacing: tuple[float, float]) -> bytes:
    """(H, W) HU, drawn in the patient's proportions."""
    low, high = WINDOW
    gray = ((np.clip(image, low, high) - low) * (255 / (high - low))).astype(np.uint8)
    millimeters = np.array(gray.shape) * spacing
    # No more pixels than there are voxels, and none that a reader would not see.
    scale = min(LONGEST_SIDE, max(gray.shape)) / millimeters.max()
    height, width = np.maximum(np.rint(millimeters * scale), 1).astype(int).tolist()
    buffer = BytesIO()
    Image.fromarray(gray).resize((width, height), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def outline_path(mask: np.ndarray) -> str:
    """SVG path around what is inside, in half pixels: (H, W) bool has the view box `0 0 2W 2H`."""
    if not mask.any():
        return ""
    # With a border of nothing around it, an outline also closes along the edge of the picture.
    lines = contour_generator(z=np.pad(mask, 1).astype(np.float32), line_type=LineType.Separate).lines(0.5)
    return "".join(_subpath(np.rint(2 * line - 1).astype(int)) for line in lines)


def _subpath(points: np.ndarray) -> str:
    """A closed line through (N, 2) points x, y; steps in the same direction are one."""
    steps = np.diff(points, axis=0)
    turns = np.flatnonzero(np.any(np.diff(steps, axis=0) != 0, axis=1)) + 1
    corners = points[np.concatenate([[0], turns, [len(points) - 1]])]
    moves = " ".join(f"{x} {y}" for x, y in np.diff(corners, axis=0)[:-1].tolist())
    return f"M{corners[0][0]} {corners[0][1]}l{moves}z"
