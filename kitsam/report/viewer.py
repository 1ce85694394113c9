"""A case to leaf through: CT slices under the outlines of truth and prediction, with a slider.

Each slice is a small JPEG and a few SVG paths, all in the page itself; some lines of JavaScript put one slice's into
view. The outlines are vectors, so that they stay sharp at any size and can be switched off. The slider is the
browser's own: arrow keys, Home and End move it. Without JavaScript the first slice stands still. A case takes some
10 KB a slice, of which there are at most `MOST_FRAMES`.
"""

import base64
import json
from collections.abc import Iterator
from html import escape
from io import BytesIO

import numpy as np
from contourpy import LineType, contour_generator
from PIL import Image

from kitsam.ct.case import Case
from kitsam.pictures.overlay import OUTLINES, WINDOW, choose_slices, crop

MOST_FRAMES = 60
LONGEST_SIDE = 400  # pixels of a picture
JPEG_QUALITY = 78
SIDES = ("truth", "prediction")

SCRIPT = """
for (const viewer of document.querySelectorAll('.viewer')) {
  const frames = JSON.parse(viewer.querySelector('script').textContent);
  const image = viewer.querySelector('img'), slider = viewer.querySelector('input[type=range]');
  const paths = viewer.querySelectorAll('path'), caption = viewer.querySelector('output');
  const show = () => {
    const frame = frames[slider.value];
    image.src = frame.image;
    image.alt = frame.alt;
    caption.textContent = frame.caption;
    slider.setAttribute('aria-valuetext', frame.caption);
    paths.forEach((path, index) => path.setAttribute('d', frame.paths[index]));
  };
  slider.addEventListener('input', show);
  for (const button of viewer.querySelectorAll('button')) {
    button.addEventListener('click', () => { slider.value = button.dataset.frame; show(); });
  }
  for (const box of viewer.querySelectorAll('input[type=checkbox]')) {
    box.addEventListener('change', () => viewer.classList.toggle('without-' + box.name, !box.checked));
  }
  viewer.classList.add('live');
}
"""


def viewer(case: Case, prediction: np.ndarray | None) -> str:
    """HTML of a case's slices, from the first labeled one to the last. `prediction`: (S, H, W) labels."""
    volumes = {"truth": case.label, "prediction": prediction}
    chosen = choose_slices(prediction, case.label, len(case.image))
    shown = _frame_slices(volumes, chosen, len(case.image))
    labeled = np.any([volume.any(axis=0) for volume in volumes.values() if volume is not None], axis=0)
    rows, columns = crop(labeled, case.spacing[1:])
    frames = [_frame(case, volumes, z, rows, columns) for z in shown]
    height, width = case.image[0, rows, columns].shape
    # The first of the slices chosen is the one that tells most.
    first = shown.index(next(iter(chosen)))
    return "".join(
        (
            '<div class="viewer">',
            _stage(frames[first], width, height, case.spacing),
            _controls(frames, first, case.name, prediction is not None),
            _jumps(chosen, shown),
            f'<script type="application/json">{_json(frames)}</script></div>',
        )
    )


def _frame_slices(volumes: dict[str, np.ndarray | None], chosen: dict[int, str], count: int) -> list[int]:
    """All slices between the first and the last labeled one, or evenly spread ones; always those chosen."""
    filled = np.flatnonzero(sum(volume.any(axis=(1, 2)) for volume in volumes.values() if volume is not None))
    first, last = (int(filled[0]), int(filled[-1])) if len(filled) else (0, count - 1)
    every = np.linspace(first, last, min(last - first + 1, MOST_FRAMES)).round().astype(int).tolist()
    return sorted({*every, *chosen})


def _frame(case: Case, volumes: dict[str, np.ndarray | None], z: int, rows: slice, columns: slice) -> dict:
    caption = f"slice {z + 1} of {len(case.image)}"
    parts = [None if volumes[side] is None else volumes[side][z, rows, columns] for side in SIDES]
    return {
        "image": _jpeg(case.image[z, rows, columns], case.spacing[1:]),
        "alt": f"{case.name}, {caption}",
        "caption": caption,
        "paths": [
            "" if part is None else outline_path(np.isin(part, classes)) for part in parts for classes, _, _ in OUTLINES
        ],
    }


def _jpeg(hounsfield: np.ndarray, spacing: tuple[float, float]) -> str:
    """Data URI of a slice, with the patient's proportions."""
    low, high = WINDOW
    gray = ((np.clip(hounsfield, low, high) - low) * (255 / (high - low))).astype(np.uint8)
    millimeters = np.array(gray.shape) * spacing
    # No more pixels than there are voxels, and none that a reader would not see.
    scale = min(LONGEST_SIDE, max(gray.shape)) / millimeters.max()
    height, width = np.maximum(np.rint(millimeters * scale), 1).astype(int).tolist()
    buffer = BytesIO()
    Image.fromarray(gray).resize((width, height), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


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


def _stage(frame: dict, width: int, height: int, spacing: tuple[float, float, float]) -> str:
    paths = "".join(
        f'<path class="{kind} {side}" stroke="{color}" d="{path}"/>'
        for (kind, side, color), path in zip(_kinds(), frame["paths"])
    )
    return (
        f'<div class="stage" style="aspect-ratio:{width * spacing[2]:.4g}/{height * spacing[1]:.4g}">'
        f'<img src="{frame["image"]}" alt="{escape(frame["alt"])}">'
        f'<svg viewBox="0 0 {2 * width} {2 * height}" preserveAspectRatio="none" aria-hidden="true">{paths}</svg>'
        '<span title="the patient\'s right">R</span></div>'
    )


def _kinds() -> Iterator[tuple[str, str, str]]:
    """Class, side and color of each path, in the order of a frame's."""
    for side in SIDES:
        for _, name, color in OUTLINES:
            yield name.split()[0], side, color


def _controls(frames: list[dict], first: int, name: str, has_prediction: bool) -> str:
    sides = SIDES if has_prediction else SIDES[:1]
    boxes = "".join(f'<label><input type="checkbox" name="{side}" checked> {side}</label>' for side in sides)
    return (
        f'<div class="controls"><input type="range" min="0" max="{len(frames) - 1}" value="{first}" '
        f'aria-label="Slice of {escape(name)}"><output>{frames[first]["caption"]}</output>{boxes}</div>'
    )


def _jumps(chosen: dict[int, str], shown: list[int]) -> str:
    buttons = "".join(
        f'<button type="button" data-frame="{shown.index(z)}">{escape(reason)}</button>'
        for z, reason in sorted(chosen.items())
    )
    return f'<div class="jumps">{buttons}</div>'


def _json(value: object) -> str:
    """For a script element, which ends at the first `</`."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
