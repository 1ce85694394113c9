"""`kitsam bench cascade`: what the processor does between the decoders' answers and the labels, against scipy.

From the answers for one scan to its labels: holes of the ROI filled, small parts dropped, a box around each kidney of
each slice, small lesions dropped. The stock way does that on whole volumes with `scipy.ndimage`, kitsam in the boxes of
what is there. The answers are rendered from a label map; once as they are, and once with a false voxel in opposite
corners of each slice, which stretch the box around all to the whole volume. Both ways have to agree in every voxel and
box. Time is the processor's, memory that beyond the answers.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from scipy import ndimage

from kitsam.bench.config import BenchCascadeConfig
from kitsam.bench.evaluator import PHANTOM_SIDE, PHANTOM_SLICES, TITLES, rendered_prediction, tile
from kitsam.bench.measure import in_fresh_process, peak_memory, reset_peak_memory, show_figures, write_figures
from kitsam.ct.labels import CYST, KIDNEY, TUMOR
from kitsam.ct.volume import read_label
from kitsam.decoding.ask import kidney_boxes
from kitsam.decoding.config import PromptConfig
from kitsam.inference.cleanup import MM3_PER_ML, clean_roi, drop_small_lesions
from kitsam.inference.config import CascadeConfig
from kitsam.phantom.cases import make_case
from kitsam.sam.boxes import clip, enlarge
from kitsam.system.errors import KitsamError

CASCADE, PROMPT = CascadeConfig(), PromptConfig()
IN_PLANE = np.zeros((3, 3, 3), bool)
IN_PLANE[1] = True
Spacing = tuple[float, float, float]
# (S, H, W) uint8 answers, mm between slices, rows, columns -> (S, H, W) uint8 labels, (P, 4) boxes.
Way = Callable[[np.ndarray, Spacing], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Figures:
    """One comparison."""

    scipy_ms: float  # of processor time a slice
    kitsam_ms: float
    ratio: float
    scipy_peak: float  # label volumes
    kitsam_peak: float


def run(config: BenchCascadeConfig) -> int:
    with tempfile.TemporaryDirectory(prefix="kitsam-bench-") as folder:
        path = Path(folder) / "answers.npy"
        answers, spacing = _answers(config)
        results = {}
        for kind in TITLES:
            if kind == "corners":
                answers[:, 0, 0] = answers[:, -1, -1] = KIDNEY
            np.save(path, answers)
            results[kind] = _compare(path, spacing)
    write_figures(
        config.json, "cascade", {"shape": answers.shape, **{kind: asdict(one) for kind, one in results.items()}}
    )
    _show(results, answers.shape)
    return 0


def _answers(config: BenchCascadeConfig) -> tuple[np.ndarray, Spacing]:
    """(S, H, W) uint8 labels, and mm between slices, rows, columns."""
    if config.labels is None:
        _, labels, spacing = make_case(0, PHANTOM_SIDE, PHANTOM_SLICES, seed=0)
    else:
        volume = read_label(config.labels)
        labels, spacing = volume.voxels, volume.spacing
    height = len(labels) * spacing[0]
    labels = tile(labels, config.slices)
    return rendered_prediction(labels, 0), (height / len(labels), *spacing[1:])


def _compare(path: Path, spacing: Spacing) -> Figures:
    stock, own = (in_fresh_process(measure, way, path, spacing).value for way in (scipy_way, kitsam_way))
    if not all(map(np.array_equal, stock[2:], own[2:])):
        raise KitsamError("the two ways give different labels or boxes")
    return Figures(stock[0], own[0], stock[0] / own[0], stock[1], own[1])


def measure(way: Way, path: Path, spacing: Spacing) -> tuple[float, float, np.ndarray, np.ndarray]:
    """ms of processor time a slice and memory in label volumes, of a scan's labels and boxes, which follow."""
    answers = np.load(path, allow_pickle=False)
    reset_peak_memory(torch.device("cpu"))
    before = psutil.Process().memory_info().rss
    start = time.process_time()
    label, boxes = way(answers, spacing)
    milliseconds = (time.process_time() - start) * 1000 / len(answers)
    return milliseconds, (peak_memory(torch.device("cpu")) - before) / answers.nbytes, label, boxes


def kitsam_way(answers: np.ndarray, spacing: Spacing) -> tuple[np.ndarray, np.ndarray]:
    label = (answers > 0).view(np.uint8)
    clean_roi(label, spacing, CASCADE.smallest_roi)
    boxes = kidney_boxes(label > 0, spacing[1:], PROMPT).boxes
    _add_lesions(label, answers)
    drop_small_lesions(label, spacing, CASCADE.smallest_lesion)
    return label, boxes


def scipy_way(answers: np.ndarray, spacing: Spacing) -> tuple[np.ndarray, np.ndarray]:
    roi = ndimage.binary_fill_holes(answers > 0, IN_PLANE)
    roi &= ~_small_parts(roi, spacing, CASCADE.smallest_roi)
    for _ in (TUMOR, CYST):  # each decoder's
        boxes = _boxes(roi, spacing[1:])
    label = roi.astype(np.uint8)
    _add_lesions(label, answers)
    for lesion in (TUMOR, CYST):
        label[_small_parts(label == lesion, spacing, CASCADE.smallest_lesion)] = KIDNEY
    return label, boxes


def _add_lesions(label: np.ndarray, answers: np.ndarray) -> None:
    for own, said in zip(label, answers):
        np.copyto(own, said, where=(own > 0) & (said > 0))


def _small_parts(mask: np.ndarray, spacing: Spacing, smallest: float) -> np.ndarray:
    """(S, H, W) bool: the 3-D parts below `smallest` mL."""
    parts, count = ndimage.label(mask)
    voxels, *ends = (np.bincount(some.ravel(), minlength=count + 1) for some in (parts, parts[0], parts[-1]))
    cuts = [end * (spacing[1] * spacing[2]) for end in ends]
    small = voxels * np.prod(spacing) + sum(cut**1.5 for cut in cuts) < smallest * MM3_PER_ML
    small[0] = False
    return small[parts]


def _boxes(roi: np.ndarray, pixel: tuple[float, float]) -> np.ndarray:
    """(P, 4) around the kidneys of each slice; specks count, if the largest of their slice."""
    reach = [1, *(2 * int(PROMPT.merge / 2 / mm) + 1 for mm in pixel)]
    parts, count = ndimage.label(ndimage.maximum_filter(roi, size=reach, mode="constant"), IN_PLANE)
    parts *= roi
    areas = np.bincount(parts.ravel(), minlength=count + 1)[1:] * pixel[0] * pixel[1]
    extents = ndimage.find_objects(parts)
    slices = np.array([extent[0].start for extent in extents])
    largest = {}
    for part in np.argsort(-areas, kind="stable"):
        largest.setdefault(slices[part], part)
    keep = [part for part in range(count) if areas[part] >= PROMPT.smallest or largest[slices[part]] == part]
    boxes = [
        [extents[part][axis].start for axis in (2, 1)] + [extents[part][axis].stop for axis in (2, 1)] for part in keep
    ]
    return clip(enlarge(np.array(boxes, np.float32), PROMPT.margin), *roi.shape[1:])


def _show(results: dict[str, Figures], shape: tuple[int, ...]) -> None:
    rows: dict[str, Callable[[Figures], str]] = {
        "scipy, processor ms a slice": lambda figures: f"{figures.scipy_ms:.1f}",
        "kitsam, processor ms a slice": lambda figures: f"{figures.kitsam_ms:.1f}",
        "ratio": lambda figures: f"{figures.ratio:.1f}",
        "scipy, memory in label volumes": lambda figures: f"{figures.scipy_peak:.1f}",
        "kitsam, memory in label volumes": lambda figures: f"{figures.kitsam_peak:.1f}",
    }
    titled = {TITLES[kind]: figures for kind, figures in results.items()}
    show_figures(f"From answers to labels, {' x '.join(map(str, shape))} voxels", titled, rows)
