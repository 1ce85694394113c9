"""`kitsam bench evaluator`: `kitsam score`, whole command, against the official way on the same files and process count.

The files are of whole KiTS size: the given label volumes, tiled along the patient up and down again until they have
the slices asked for, and predictions rendered from them (shifted from slice to slice, lesions shrunk, some missed, one
invented). They are scored twice: as they are, and with a few false voxels in two opposite corners, which take the box
around all labels from the kidneys to the whole volume: the worst case of a distance transform. Ours runs before and after
the official way, and the better time counts; processor time is given as well, which other work on the machine changes less.
"""

import csv
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from rich.table import Table
from scipy import ndimage

from kitsam.bench.config import BenchEvaluatorConfig
from kitsam.bench.measure import MIB, keep
from kitsam.ct.labels import CYST, KIDNEY, TUMOR
from kitsam.ct.volume import read_label
from kitsam.evaluation.metrics import COLUMNS
from kitsam.evaluation.results import CSV_NAME
from kitsam.evaluation.workers import processor_cores
from kitsam.phantom.cases import make_case
from kitsam.system.console import progress, say
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.seeds import generator

PHANTOM_SIDE, PHANTOM_SLICES = 512, 40
CORNER = 3  # voxels a side of the false positives in the corners
TITLES = {"rendered": "rendered predictions", "corners": "false ones in the corners"}


@dataclass(frozen=True)
class Figures:
    official_seconds: float
    kitsam_seconds: float
    ratio: float
    largest_difference: float  # of any score of any case
    official_processor_seconds: float  # of all processes
    kitsam_processor_seconds: float
    official_peak_bytes: int  # of the largest process
    kitsam_peak_bytes: int


def run(config: BenchEvaluatorConfig) -> int:
    if find_spec("surface_distance") is None:
        raise KitsamError("the official way needs the package surface-distance: pip install 'kitsam[test]'")
    workers = config.workers or processor_cores()
    with tempfile.TemporaryDirectory(dir=config.work, prefix="kitsam-bench-") as folder:
        work = Path(folder)
        voxels = _make_files(work, config)
        found = {kind: _compare(work, kind, workers) for kind in TITLES}
    _show(found, workers, voxels)
    keep(
        config.json,
        "evaluator",
        {
            "processes": workers,
            "cases": config.cases,
            "voxels_a_case": voxels,
            **{kind: asdict(figures) for kind, figures in found.items()},
        },
    )
    return 0


def _make_files(work: Path, config: BenchEvaluatorConfig) -> float:
    """Write truth and both kinds of predictions; the mean voxels of a case."""
    sizes = []
    with progress("Writing label maps", config.cases, "cases") as tick:
        for number, (labels, spacing) in enumerate(_label_volumes(config)):
            name = f"case_{number:05d}"
            height = labels.shape[0] * spacing[0]
            truth = _tiled(labels, config.slices)
            spacing = (height / len(truth), *spacing[1:])
            prediction = rendered_prediction(truth, number)
            _save(work / "data" / name / "segmentation.nii.gz", truth, spacing)
            _save(work / "rendered" / f"{name}.nii.gz", prediction, spacing)
            prediction[:CORNER, :CORNER, :CORNER] = prediction[-CORNER:, -CORNER:, -CORNER:] = TUMOR
            _save(work / "corners" / f"{name}.nii.gz", prediction, spacing)
            sizes.append(truth.size)
            tick()
    return float(np.mean(sizes))


def _label_volumes(config: BenchEvaluatorConfig) -> Iterator[tuple[np.ndarray, tuple[float, float, float]]]:
    """(S, H, W) uint8 labels and mm between slices, rows, columns: of each case to be made."""
    if config.data is None:
        for number in range(config.cases):
            _, labels, spacing = make_case(number, PHANTOM_SIDE, PHANTOM_SLICES, seed=0)
            yield labels, spacing
        return
    paths = sorted([*config.data.glob("*.nii.gz"), *config.data.glob("*/segmentation.nii.gz")])
    if not paths:
        raise OptionError(f"--data: no label map (NAME.nii.gz, or NAME/segmentation.nii.gz) in {config.data}")
    for number in range(config.cases):
        volume = read_label(paths[number % len(paths)])
        yield volume.voxels, volume.spacing


def _tiled(labels: np.ndarray, slices: int) -> np.ndarray:
    """Up and down through the patient until there are `slices` slices, at least those of the volume itself."""
    there_and_back = np.concatenate([labels, labels[::-1]])
    slices = max(slices, len(labels))
    return there_and_back[np.arange(slices) % len(there_and_back)]


def rendered_prediction(truth: np.ndarray, seed: int) -> np.ndarray:
    """(S, H, W) uint8: what a fair model might say."""
    rng = generator(seed, "bench", "evaluator")
    prediction = np.empty_like(truth)
    waves = rng.uniform(0.05, 0.2, 2), rng.uniform(0, 6, 2)
    for z, labels in enumerate(truth):
        rows, columns = np.rint(2.5 * np.sin(waves[0] * z + waves[1])).astype(int)
        moved = np.roll(labels, (rows, columns), (0, 1))
        for lesion in (TUMOR, CYST):
            inside = moved == lesion
            if inside.any():
                moved[inside & ~ndimage.binary_erosion(inside)] = KIDNEY
        prediction[z] = moved
    # The upper fifth of the patient has lost its lesions; one is invented in the middle of the kidneys' slices.
    upper = prediction[: len(prediction) // 5]
    upper[upper > KIDNEY] = KIDNEY
    filled = np.argwhere(prediction[len(prediction) // 2] == KIDNEY)
    if len(filled):
        row, column = filled[len(filled) // 2]
        prediction[len(prediction) // 2 - 3 : len(prediction) // 2 + 3, row - 5 : row + 5, column - 5 : column + 5] = (
            TUMOR
        )
    return prediction


def _save(path: Path, labels: np.ndarray, spacing: tuple[float, float, float]) -> None:
    """In KiTS's own orientation, slices first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = *(-np.array(spacing)), 1
    nib.save(nib.Nifti1Image(labels, affine), path)


def _compare(work: Path, kind: str, workers: int) -> Figures:
    predictions, data, ours, theirs = work / kind, work / "data", work / f"{kind}-kitsam", work / f"{kind}-official.csv"
    score = ["kitsam", "score", str(predictions), f"--data={data}", f"--out={ours}", f"--workers={workers}"]
    official = ["kitsam.bench.official", str(predictions), str(data), str(theirs), str(workers)]
    runs = [_run(score), _run(official), _run(score)]
    ours_best, official_run = min(runs[0], runs[2]), runs[1]
    difference = np.abs(_read_scores(ours / CSV_NAME) - _read_scores(theirs)).max()
    return Figures(
        official_seconds=official_run.seconds,
        kitsam_seconds=ours_best.seconds,
        ratio=official_run.seconds / ours_best.seconds,
        largest_difference=float(difference),
        official_processor_seconds=official_run.processor_seconds,
        kitsam_processor_seconds=ours_best.processor_seconds,
        official_peak_bytes=official_run.peak_bytes,
        kitsam_peak_bytes=ours_best.peak_bytes,
    )


# Between this process and the measured one: Linux counts what a process held before it started a program as that program's.
LAUNCHER = """
import resource, subprocess, sys, time
began = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
seconds, usage = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
print(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
sys.exit(done.returncode)
"""


class Run(NamedTuple):
    seconds: float
    processor_seconds: float  # of all processes
    peak_bytes: int  # of the largest process


def _run(arguments: list[str]) -> Run:
    """Run a Python command."""
    command = [sys.executable, "-c", LAUNCHER, sys.executable, "-m", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise KitsamError(f"{' '.join(arguments[:2])} failed with exit code {done.returncode}: {last[0]}")
    seconds, processor_seconds, peak = done.stdout.split()
    return Run(float(seconds), float(processor_seconds), int(peak))


def _read_scores(path: Path) -> np.ndarray:
    """(N + 1, 6) of the cases by name, and their average."""
    with open(path, newline="", encoding="utf-8") as file:
        return np.array([[float(row[column]) for column in COLUMNS] for row in csv.DictReader(file)])


def _show(found: dict[str, Figures], workers: int, voxels: float) -> None:
    table = Table(
        "",
        *(TITLES[kind] for kind in found),
        title=f"Whole commands, processes: {workers}; a label map: {voxels / MIB:.0f} MiB",
        title_justify="left",
    )
    rows: dict[str, Callable[[Figures], str]] = {
        "official, seconds": lambda figures: f"{figures.official_seconds:.1f}",
        "kitsam score, seconds": lambda figures: f"{figures.kitsam_seconds:.1f}",
        "ratio": lambda figures: f"{figures.ratio:.1f}",
        "official, processor seconds": lambda figures: f"{figures.official_processor_seconds:.1f}",
        "kitsam score, processor seconds": lambda figures: f"{figures.kitsam_processor_seconds:.1f}",
        "largest difference": lambda figures: f"{figures.largest_difference:.1e}",
        "official, MiB of its largest process": lambda figures: f"{figures.official_peak_bytes / MIB:.0f}",
        "kitsam score, MiB of its largest process": lambda figures: f"{figures.kitsam_peak_bytes / MIB:.0f}",
    }
    for label, text in rows.items():
        table.add_row(label, *map(text, found.values()))
    say(table)
