"""A case to leaf through in three planes: CT slices under the outlines of truth and prediction.

Each slice is a small JPEG and a few SVG paths, so that outlines stay sharp at any size and can be switched off. The
gray values hold more HU than a screen shows at once (`STORED`), and the page's script takes windows out of them.
A slice takes some 20 KB; `Detail` bounds how many there are. A scan of a few slices has no other planes.
"""

from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from contourpy import LineType, contour_generator
from PIL import Image

from kitsam.ct.case import Case
from kitsam.pictures.overlay import MARGIN_MM, OUTLINES, choose_slices, crop
from kitsam.report.lesion_list import LesionRow, Point, list_lesions

STORED = (-300.0, 500.0)  # HU of black and white in a JPEG
# HU of black and white on the screen; the first is shown at first.
WINDOWS = {"soft tissue": (-160, 240), "lesions": (0, 200), "all": (-300, 500)}
LONGEST_SIDE = 400  # pixels of a JPEG
JPEG_QUALITY = 80
FEWEST_SLICES = 8  # of a scan, for planes across them
MOST_LESIONS = 60  # in the list; slices are kept for these
PLANES = ("axial", "coronal", "sagittal")  # in the order of a volume's axes


class Detail(NamedTuple):
    """How many slices of a case are shown, at most but for those of lesions."""

    axial: int
    across: int  # coronal, and sagittal


class Frame(NamedTuple):
    """One slice; a list in the page's JSON."""

    jpeg: bytes
    caption: str
    paths: dict[str, list[str]]  # SVG paths by side: truth, and prediction if there is one; in the order of OUTLINES
    at: int  # index of the slice along the plane's axis


class Plane(NamedTuple):
    """What the slider moves through."""

    frames: list[Frame]
    first: int  # index of the frame that tells most
    size: tuple[int, int]  # height and width of a frame in voxels
    spacing: tuple[float, float]  # mm between its rows and columns

    @property
    def millimeters(self) -> tuple[float, float]:
        """Height and width of a frame."""
        return self.size[0] * self.spacing[0], self.size[1] * self.spacing[1]


class Jump(NamedTuple):
    at: Point
    reason: str


class Viewer(NamedTuple):
    planes: dict[str, Plane]
    jumps: list[Jump]
    lesions: list[LesionRow]
    has_prediction: bool

    def as_json(self) -> dict[str, Any]:
        return {
            name: {"frames": plane.frames, "first": plane.first, "size": plane.size, "mm": plane.millimeters}
            for name, plane in self.planes.items()
        }


def view(case: Case, prediction: np.ndarray | None, detail: Detail) -> Viewer:
    """A labeled case, where something is labeled. `prediction`: (S, H, W) labels."""
    volumes = {"truth": case.label} if prediction is None else {"truth": case.label, "prediction": prediction}
    anywhere = np.any([volume > 0 for volume in volumes.values()], axis=0)
    chosen = choose_slices(prediction, case.label, len(case.image))
    lesions = list_lesions(case.label, prediction, case.geometry)
    rows, columns = crop(anywhere.any(axis=0), case.spacing[1:])
    slices = _around(anywhere.any(axis=(1, 2)), case.spacing[0])
    box = slices, rows, columns
    of_lesions = [{lesion.at[axis] for lesion in lesions[:MOST_LESIONS]} for axis in range(3)]
    axial = _spread(anywhere, 0, detail.axial) | set(chosen) | of_lesions[0]
    # Of the slices chosen the first is the one that tells most.
    first = next(iter(chosen))
    planes = {"axial": _plane(case, volumes, 0, axial, box, first)}
    if detail.across and len(case.image) >= FEWEST_SLICES and anywhere.any():
        for axis in (1, 2):
            areas = anywhere.sum(axis=tuple(other for other in range(3) if other != axis))
            wanted = _spread(anywhere, axis, detail.across) | of_lesions[axis]
            planes[PLANES[axis]] = _plane(case, volumes, axis, wanted, box, int(areas.argmax()))
    jumps = [Jump((z, *_middle(anywhere[z])), reason) for z, reason in sorted(chosen.items())]
    return Viewer(planes, jumps, lesions, prediction is not None)


def _around(filled: np.ndarray, spacing: float) -> slice:
    """(S,) -> from the first filled slice to the last, with some tissue around."""
    places = np.flatnonzero(filled)
    if not len(places):
        return slice(0, len(filled))
    margin = round(MARGIN_MM / spacing)
    return slice(max(int(places[0]) - margin, 0), int(places[-1]) + margin + 1)


def _spread(filled: np.ndarray, axis: int, most: int) -> set[int]:
    """Slices along an axis from the first filled one to the last, evenly."""
    places = np.flatnonzero(filled.any(axis=tuple(other for other in range(3) if other != axis)))
    first, last = (places[0], places[-1]) if len(places) else (0, filled.shape[axis] - 1)
    return set(np.linspace(first, last, min(last - first + 1, most)).round().astype(int).tolist())


def _middle(mask: np.ndarray) -> tuple[int, int]:
    """Row and column of what is inside; of the whole slice where nothing is."""
    points = np.argwhere(mask) if mask.any() else np.array([mask.shape]) / 2
    row, column = points.mean(axis=0)
    return int(row), int(column)


def _plane(
    case: Case,
    volumes: dict[str, np.ndarray],
    axis: int,
    wanted: set[int],
    box: tuple[slice, slice, slice],
    first: int,
) -> Plane:
    """The wanted slices along an axis, cut to the box across it; `first`: the one to be shown first."""
    across = [other for other in range(3) if other != axis]
    spacing = case.spacing[across[0]], case.spacing[across[1]]
    indices = sorted(wanted | {first})
    frames = []
    for index in indices:
        cut = tuple(index if other == axis else box[other] for other in range(3))
        paths = {
            side: [outline_path(np.isin(volume[cut], classes)) for classes, _, _ in OUTLINES]
            for side, volume in volumes.items()
        }
        unit = "slice" if axis == 0 else PLANES[axis]
        caption = f"{unit} {index + 1} of {case.image.shape[axis]}"
        frames.append(Frame(_jpeg(case.image[cut], spacing), caption, paths, index))
        size = case.image[cut].shape
    return Plane(frames, indices.index(first), size, spacing)


def _jpeg(image: np.ndarray, spacing: tuple[float, float]) -> bytes:
    """(H, W) HU, drawn in the patient's proportions."""
    low, high = STORED
    gray = ((np.clip(image, low, high) - low) * (255 / (high - low))).astype(np.uint8)
    millimeters = np.array(gray.shape) * spacing
    # No more pixels than there are voxels, and none that a reader would not see.
    scale = min(LONGEST_SIDE, max(gray.shape)) / millimeters.max()
    height, width = np.maximum(np.rint(millimeters * scale), 1).astype(int).tolist()
    buffer = BytesIO()
    Image.fromarray(gray).resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def window_filter(window: tuple[float, float]) -> str:
    """The CSS filter that shows these HU as black and white.

    As a line through gray values from 0 to 1: contrast(c) is c v + (1 - c) / 2, brightness(b) is b v.
    """
    low, high = ((value - STORED[0]) / (STORED[1] - STORED[0]) for value in window)
    slope = 1 / (high - low)
    brightness = slope * (1 - 2 * low)
    return f"contrast({slope / brightness:.4g}) brightness({brightness:.4g})"


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
