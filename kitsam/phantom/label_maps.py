"""`kitsam phantom --labels`: a data set of CTs rendered over real label maps, with these as its labels.

Kidneys, tumors, cysts, sizes and spacings are those of patients; intensities are rendered (`rendering.py`). A case
depends on its label map, its name and the seed, down to the bytes of its files. A label map that cannot be used is left
out by name. Memory: one case a processor core, some 4 bytes a voxel.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np

from kitsam.ct.case import USABLE_NAME, try_case
from kitsam.ct.layouts import ENDINGS, IMAGING, SEGMENTATION
from kitsam.ct.volume import Geometry, read_label
from kitsam.phantom.config import PhantomConfig
from kitsam.phantom.files import check_folder, write_volume
from kitsam.phantom.rendering import render
from kitsam.system.console import progress, say, warn
from kitsam.system.errors import CaseError, OptionError


def run(config: PhantomConfig) -> int:
    found = find_label_maps(config.labels)
    paths = dict(list(found.items())[: config.cases])
    check_folder(config.out, paths)
    left_out = {}
    write = partial(try_case, _write_case(config))
    with ThreadPoolExecutor(os.cpu_count()) as threads, progress("Rendering", len(paths), "cases") as tick:
        for name, result in zip(paths, threads.map(write, paths.items())):
            if isinstance(result, CaseError):
                warn(f"{name} is left out: {result}")
                left_out[name] = result
            tick(1, name)
    if len(left_out) == len(paths):
        raise OptionError(f"--labels: no usable label map in {config.labels}")
    say(f"Wrote {len(paths) - len(left_out)} cases, rendered over the label maps of {config.labels}, to {config.out}")
    return 1 if left_out else 0


def find_label_maps(folder: Path) -> dict[str, Path]:
    """Label maps by the name of their case, sorted. Raises `OptionError` where there is none, or two of a name."""
    paths = [(path, path.parent.name) for path in folder.glob(f"*/{SEGMENTATION}")]
    for ending in ENDINGS:
        paths += [(path, path.name.removesuffix(ending)) for path in folder.glob(f"*{ending}")]
    found: dict[str, Path] = {}
    for path, name in sorted(paths):
        if name.startswith("."):
            continue
        if name in found:
            raise OptionError(f"--labels: two label maps of one name: {found[name]} and {path}")
        found[name] = path
    if not found:
        raise OptionError(f"--labels: no label map (NAME.nii.gz, or NAME/segmentation.nii.gz) in {folder}")
    return dict(sorted(found.items()))


def _write_case(config: PhantomConfig) -> Callable[[tuple[str, Path]], None]:
    def write(case: tuple[str, Path]) -> None:
        name, path = case
        if not USABLE_NAME.fullmatch(name):
            raise CaseError(f"{path}: the case name {name!r} may not hold a dot or a slash")
        label = read_label(path)
        if not label.voxels.any():
            raise CaseError(f"{path}: labels neither kidney nor tumor nor cyst: there is nothing to render a CT around")
        image = render(label.voxels, label.spacing, name, config.seed)
        for file, voxels in ((IMAGING, image), (SEGMENTATION, label.voxels)):
            volume = _in_file(voxels, label.geometry)
            write_volume(config.out / name / file, volume, "rendered", config.seed, name)

    return write


def _in_file(voxels: np.ndarray, geometry: Geometry) -> nib.Nifti1Image:
    """(S, H, W) as the label map's file has its axes, with the voxels' own type."""
    header = geometry.header.copy()
    header.set_data_dtype(voxels.dtype)
    header.set_slope_inter(1, 0)
    header["cal_min"], header["cal_max"] = 0, 0
    return nib.Nifti1Image(np.ascontiguousarray(geometry.in_file_order(voxels)), geometry.affine, header)
