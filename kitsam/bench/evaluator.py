"""`kitsam bench evaluator`: the command `kitsam score` against the official way, on the same files and process count.

The files have the full size of KiTS: label volumes, repeated down and up the patient until they have enough slices, and
predictions rendered from them (shifted from slice to slice, lesions shrunk, some missed, one invented). They are scored
twice: as they are, and with a few false voxels in two opposite corners, which enlarge the box around all labels to the
whole volume: the worst case of a distance transform. `kitsam score` runs before and after the official way, and its
better time counts; processor time is measured as well, since other work on the machine changes it less.
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
from scipy import ndimage

from kitsam.bench.config import BenchEvaluatorConfig
from kitsam.bench.measure import MIB, show_figures, write_figures
from kitsam.ct.labels import CYST, KIDNEY, TUMOR
from kitsam.ct.volume import canonical_affine, read_label
from kitsam.evaluation.metrics import COLUMNS
from kitsam.evaluation.results import CSV_NAME
from kitsam.phantom.cases import make_case
from kitsam.system.console import progress
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.machine import available_cores
from kitsam.system.seeds import generator

PHANTOM_SIDE, PHANTOM_SLICES = 512, 40
CORNER = 3  # voxels a side of the false positives in the corners
TITLES = {"rendered": "rendered predictions", "corners": "false ones in the corners"}


@dataclass(frozen=True)
class Figures:
    """One comparison of `kitsam score` with the official way."""

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
    workers = config.workers or available_cores()
    with tempfile.TemporaryDirectory(dir=config.work, prefix="kitsam-bench-") as folder:
        work = Path(folder)
        voxels = _write_files(work, config)
        results = {kind: _compare(work, kind, workers) for kind in TITLES}
    figures = {
        "processes": workers,
        "cases": config.cases,
        "voxels_a_case": voxels,
        **{kind: asdict(result) for kind, result in results.items()},
    }
    write_figures(config.json, "evaluator", figures)
    _show(results, workers, voxels)
    return 0


def _write_files(work: Path, config: BenchEvaluatorConfig) -> float:
    """Write truth and both kinds of predictions. Returns the mean number of voxels of a case."""
    sizes = []
    with progress("Writing label maps", config.cases, "cases") as tick:
        for number, (labels, spacing) in enumerate(_label_volumes(config)):
            name = f"case_{number:05d}"
            height = labels.shape[0] * spacing[0]
            truth = tile(labels, config.slices)
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
    """(S, H, W) uint8 labels and mm between slices, rows, columns of `config.cases` cases."""
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


def tile(labels: np.ndarray, slices: int) -> np.ndarray:
    """(S, H, W) -> (slices, H, W), down and up the patient again and again; never fewer slices than there are."""
    round_trip = np.concatenate([labels, labels[::-1]])
    slices = max(slices, len(labels))
    return round_trip[np.arange(slices) % len(round_trip)]


def rendered_prediction(truth: np.ndarray, seed: int) -> np.ndarray:
    """(S, H, W) uint8 -> (S, H, W) uint8: labels that a fair model might predict."""
    rng = generator(seed, "bench", "evaluator")
    prediction = np.empty_like(truth)
    waves = rng.uniform(0.05, 0.2, 2), rng.uniform(0, 6, 2)
    for z, labels in enumerate(truth):
        rows, columns = np.rint(2.5 * np.sin(waves[0] * z + waves[1])).astype(int)
        shifted = np.roll(labels, (rows, columns), (0, 1))
        for lesion in (TUMOR, CYST):
            inside = shifted == lesion
            if inside.any():
                shifted[inside & ~ndimage.binary_erosion(inside)] = KIDNEY
        prediction[z] = shifted
    # The upper fifth of the slices loses its lesions; a false tumor lies in the middle slices.
    upper = prediction[: len(prediction) // 5]
    upper[upper > KIDNEY] = KIDNEY
    middle = len(prediction) // 2
    kidney = np.argwhere(prediction[middle] == KIDNEY)
    if len(kidney):
        row, column = kidney[len(kidney) // 2]
        prediction[middle - 3 : middle + 3, row - 5 : row + 5, column - 5 : column + 5] = TUMOR
    return prediction


def _save(path: Path, labels: np.ndarray, spacing: tuple[float, float, float]) -> None:
    """Write labels (S, H, W) in KiTS's own orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels, canonical_affine(spacing)), path)


def _compare(work: Path, kind: str, workers: int) -> Figures:
    predictions, data = work / kind, work / "data"
    kitsam_out, official_out = work / f"{kind}-kitsam", work / f"{kind}-official.csv"
    score = ["kitsam", "score", str(predictions), f"--data={data}", f"--out={kitsam_out}", f"--workers={workers}"]
    official = ["kitsam.bench.official", str(predictions), str(data), str(official_out), str(workers)]
    first_run, official_run, second_run = _run(score), _run(official), _run(score)
    kitsam_run = min(first_run, second_run)
    difference = np.abs(_read_scores(kitsam_out / CSV_NAME) - _read_scores(official_out)).max()
    return Figures(
        official_seconds=official_run.seconds,
        kitsam_seconds=kitsam_run.seconds,
        ratio=official_run.seconds / kitsam_run.seconds,
        largest_difference=float(difference),
        official_processor_seconds=official_run.processor_seconds,
        kitsam_processor_seconds=kitsam_run.processor_seconds,
        official_peak_bytes=official_run.peak_bytes,
        kitsam_peak_bytes=kitsam_run.peak_bytes,
    )


# A small process between this one and the measured command: Linux counts the memory that a process held before it
# started a program as that program's.
LAUNCHER = """
import subprocess, sys, time
start = time.perf_counter()
command = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
seconds = time.perf_counter() - start
try:
    import resource
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
except ImportError:
    print(seconds, 0, 0)
sys.exit(command.returncode)
"""


class Run(NamedTuple):
    """The cost of one command."""

    seconds: float
    processor_seconds: float  # of all processes; 0 on Windows, which does not tell
    peak_bytes: int  # of the largest process; 0 on Windows


def _run(arguments: list[str]) -> Run:
    """Run a Python module as a command; `arguments` begin with its name."""
    command = [sys.executable, "-c", LAUNCHER, sys.executable, "-m", *arguments]
    launcher = subprocess.run(command, check=False, capture_output=True, text=True)
    if launcher.returncode:
        last = launcher.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise KitsamError(f"{' '.join(arguments[:2])} failed with exit code {launcher.returncode}: {last[0]}")
    seconds, processor_seconds, peak = launcher.stdout.split()
    return Run(float(seconds), float(processor_seconds), int(peak))


def _read_scores(path: Path) -> np.ndarray:
    """(N + 1, 6): the scores of N cases sorted by name, and their average."""
    with open(path, newline="", encoding="utf-8") as file:
        return np.array([[float(row[column]) for column in COLUMNS] for row in csv.DictReader(file)])


def _show(results: dict[str, Figures], workers: int, voxels: float) -> None:
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
    titled = {TITLES[kind]: figures for kind, figures in results.items()}
    title = f"Whole commands, processes: {workers}; a label map: {voxels / MIB:.0f} MiB"
    show_figures(title, titled, rows)
