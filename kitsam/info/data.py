"""What shard sets and scans are: a set by its manifest alone, a scan by reading it as every command does."""

from collections.abc import Iterator
from dataclasses import asdict

import nibabel as nib
import numpy as np

from kitsam.ct.doubts import AIR, PADDING
from kitsam.ct.labels import CLASS_NAMES
from kitsam.ct.scan import read_scan
from kitsam.ct.scan_files import Scan
from kitsam.ct.volume import Volume
from kitsam.info.description import Description, Row, count_text, pairs_text
from kitsam.shards.manifest import Manifest, ShardEntry, read_manifest
from kitsam.system.console import size_text


def describe_shard_set(shards: str) -> Description:
    """Of a folder or an address. Raises as `read_manifest` does."""
    manifest = read_manifest(shards, "PATH")
    content = asdict(manifest)
    for split in ("train", "val"):
        del content[split]  # thousands of shards; `content["split"]` has the cases
    return Description("shard set", [*_of_manifest(manifest)], {**content, "fingerprint": manifest.fingerprint})


def _of_manifest(manifest: Manifest) -> Iterator[Row]:
    encoder = manifest.encoder
    yield "written by", f"kitsam {manifest.kitsam}, format {manifest.format}"
    yield "fingerprint", manifest.fingerprint
    yield "encoder", f"{encoder['name']}, input {encoder['input_size']}, weights {encoder['weights_sha256'][:12]}..."
    if encoder.get("seed") is not None:
        yield "encoder's weights", "random"
    elif manifest.weights:
        yield "encoder's weights", f"{manifest.weights['license']}, {manifest.weights['source']}"
    yield "input", pairs_text(manifest.input)
    yield "embedding", f"{' x '.join(map(str, manifest.embedding['shape']))} {manifest.embedding['dtype']}"
    yield "training", f"{count_text(len(manifest.split.train), 'case')}, {_size(manifest.train)}"
    yield "validation", f"{count_text(len(manifest.split.val), 'case')}, {_size(manifest.val)}"
    if manifest.folds:
        yield "folds", f"{len(manifest.folds)}, in each of which a case trains or validates"
    yield "training samples", ", ".join(f"{count:,} {stratum}" for stratum, count in manifest.strata.items())
    total = max(sum(manifest.voxels), 1)
    shares = (f"{name} {count / total:.3%}" for name, count in zip(CLASS_NAMES, manifest.voxels))
    yield "voxels", ", ".join(shares)
    for name, reason in manifest.skipped.items():
        yield "left out", f"{name}: {reason}"


def _size(shards: tuple[ShardEntry, ...]) -> str:
    samples, size = sum(shard.samples for shard in shards), sum(shard.bytes for shard in shards)
    return f"{count_text(samples, 'sample')} in {count_text(len(shards), 'shard')}, {size_text(size)}"


def describe_scan(scan: Scan) -> Description:
    """Raises `CaseError` naming the file that cannot be used."""
    volume = read_scan(scan)
    slices, rows, columns = volume.voxels.shape
    between, height, width = volume.spacing
    axes = "".join(nib.aff2axcodes(volume.geometry.affine))
    tissue = volume.voxels[volume.voxels > AIR]
    lowest, highest = float(volume.voxels.min()), float(volume.voxels.max())
    median = float(np.median(tissue)) if len(tissue) else None
    air = float(np.mean((volume.voxels <= AIR) & (volume.voxels > PADDING)))
    content = {
        "name": scan.name,
        "files": [str(path) for path in scan.files],
        "format": _format(scan),
        "sha256": scan.sha256(),
        "axes": axes,
        "shape": [slices, rows, columns],
        "spacing_mm": [between, height, width],
        "affine": volume.geometry.affine.tolist(),
        "hu": {"lowest": lowest, "highest": highest, "median_of_tissue": median, "share_of_air": air},
        "doubts": list(volume.doubts),
    }
    text = [
        ("name", scan.name),
        ("format", _format(scan)),
        ("SHA-256", content["sha256"]),
        ("slices", f"{slices} of {rows} x {columns} (rows x columns), {_millimeters(between)} apart"),
        ("pixels", f"{_millimeters(height)} x {_millimeters(width)}"),
        ("extent", _extent(volume)),
        ("axes of the file", f"{axes}: towards the patient's {', '.join(DIRECTIONS[letter] for letter in axes)}"),
        ("intensities", _intensities(content["hu"])),
        *(("doubt", doubt) for doubt in volume.doubts),
    ]
    return Description("scan", text, content)


DIRECTIONS = {"R": "right", "L": "left", "A": "front", "P": "back", "S": "head", "I": "feet"}


def _format(scan: Scan) -> str:
    if scan.series:
        return f"DICOM, {count_text(len(scan.series), 'file')}"
    if scan.needs_itk:
        return "NRRD" if scan.path.suffix.lower() in (".nrrd", ".nhdr") else "MetaImage"
    return "NIfTI"


def _extent(volume: Volume) -> str:
    lengths = [size * mm for size, mm in zip(volume.voxels.shape, volume.spacing)]
    return " x ".join(f"{length:.0f}" for length in lengths) + " mm (head to feet, front to back, right to left)"


def _millimeters(length: float) -> str:
    return f"{length:.4g} mm"


def _intensities(hu: dict[str, float | None]) -> str:
    median = "no tissue" if hu["median_of_tissue"] is None else f"tissue {hu['median_of_tissue']:.0f} (median)"
    return f"{hu['lowest']:.0f} to {hu['highest']:.0f} HU, {median}, {hu['share_of_air']:.0%} air"
