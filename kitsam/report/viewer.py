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
from kitsam.pictures.overlay import MARGIN_MM, OUTLINES, choose_slices, crop, is_in
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


class _Cut(NamedTuple):
    """A case where something is labeled, with some tissue around; all slices."""

    image: np.ndarray  # (S, h, w) HU
    labels: dict[str, np.ndarray]  # (S, h, w) uint8, of the truth, and of the prediction if there is one
    anywhere: np.ndarray  # (S, h, w) bool: labeled by either
    corner: Point  # of its first voxel, in the scan
    shape: tuple[int, int, int]  # of the scan
    spacing: tuple[float, float, float]


def view(case: Case, prediction: np.ndarray | None, detail: Detail) -> Viewer:
    """A labeled case, where something is labeled. `prediction`: (S, H, W) labels."""
    cut = _cut(case, prediction)
    truth, predicted = cut.labels["truth"], cut.labels.get("prediction")
    chosen = choose_slices(predicted, truth, len(cut.image))
    lesions = [
        lesion._replace(at=tuple(place + start for place, start in zip(lesion.at, cut.corner)))
        for lesion in list_lesions(truth, predicted, case.geometry)
    ]
    of_lesions = [{lesion.at[axis] - cut.corner[axis] for lesion in lesions[:MOST_LESIONS]} for axis in range(3)]
    # Of the slices chosen the first is the one that tells most.
    first = next(iter(chosen))
    slices = _around(cut.anywhere.any(axis=(1, 2)), cut.spacing[0])
    planes = {"axial": _plane(cut, 0, _spread(cut, 0, detail.axial) | {*chosen} | of_lesions[0], slices, first)}
    if detail.across and len(cut.image) >= FEWEST_SLICES and cut.anywhere.any():
        for axis in (1, 2):
            fullest = int(cut.anywhere.sum(axis=_others(axis)).argmax())
            planes[PLANES[axis]] = _plane(
                cut, axis, _spread(cut, axis, detail.across) | of_lesions[axis], slices, fullest
            )
    jumps = [Jump((z, *_middle(cut, z)), reason) for z, reason in sorted(chosen.items())]
    return Viewer(planes, jumps, lesions, prediction is not None)


def _cut(case: Case, prediction: np.ndarray | None) -> _Cut:
    volumes = {"truth": case.label} if prediction is None else {"truth": case.label, "prediction": prediction}
    rows, columns = crop(np.any([volume.max(axis=0) > 0 for volume in volumes.values()], axis=0), case.spacing[1:])
    labels = {side: np.ascontiguousarray(volume[:, rows, columns]) for side, volume in volumes.items()}
    anywhere = np.any([volume > 0 for volume in labels.values()], axis=0)
    corner = (0, rows.start or 0, columns.start or 0)
    return _Cut(case.image[:, rows, columns], labels, anywhere, corner, case.image.shape, case.spacing)


def _others(axis: int) -> tuple[int, int]:
    return tuple(other for other in range(3) if other != axis)


def _around(filled: np.ndarray, spacing: float) -> slice:
    """(S,) -> from the first filled slice to the last, with some tissue around."""
    places = np.flatnonzero(filled)
    if not len(places):
        return slice(0, len(filled))
    margin = round(MARGIN_MM / spacing)
    return slice(max(int(places[0]) - margin, 0), int(places[-1]) + margin + 1)


def _spread(cut: _Cut, axis: int, most: int) -> set[int]:
    """Slices along an axis from the first filled one to the last, evenly."""
    places = np.flatnonzero(cut.anywhere.any(axis=_others(axis)))
    first, last = (places[0], places[-1]) if len(places) else (0, cut.anywhere.shape[axis] - 1)
    return set(np.linspace(first, last, min(last - first + 1, most)).round().astype(int).tolist())


def _middle(cut: _Cut, z: int) -> tuple[int, int]:
    """Row and column in the scan of what is labeled on a slice; of the whole slice where nothing is."""
    mask = cut.anywhere[z]
    points = np.argwhere(mask) if mask.any() else np.array([mask.shape]) / 2
    row, column = points.mean(axis=0) + cut.corner[1:]
    return int(row), int(column)


def _plane(cut: _Cut, axis: int, wanted: set[int], slices: slice, first: int) -> Plane:
    """The wanted slices along an axis; across them those of `slices`. `first`: the one to be shown first."""
    spacing = tuple(cut.spacing[other] for other in _others(axis))
    indices = sorted(wanted | {first})
    frames = []
    for index in indices:
        place = (index,) if axis == 0 else (slices, *(index if other == axis else slice(None) for other in (1, 2)))
        paths = {
            side: [outline_path(is_in(volume[place], classes)) for classes, _, _ in OUTLINES]
            for side, volume in cut.labels.items()
        }
        at = index + cut.corner[axis]
        caption = f"{'slice' if axis == 0 else PLANES[axis]} {at + 1} of {cut.shape[axis]}"
        frames.append(Frame(_jpeg(cut.image[place], spacing), caption, paths, at))
        size = cut.image[place].shape
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
