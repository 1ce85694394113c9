"""A shard set to read from in benchmarks: random embeddings, simple masks."""

from functools import cache
from pathlib import Path

import numpy as np

from kitsam import __version__
from kitsam.ct.split import Split
from kitsam.ct.strata import STRATA
from kitsam.decoding.config import PromptConfig
from kitsam.shards.boxes import MaskBoxes, mask_boxes
from kitsam.shards.index import write_index
from kitsam.shards.manifest import FORMAT_VERSION, Manifest, ShardEntry, count_strata, write_manifest
from kitsam.shards.sample import SampleRecord
from kitsam.shards.units import PLAN
from kitsam.shards.writer import ShardWriter
from kitsam.system.console import progress
from kitsam.system.seals import write_sealed
from kitsam.system.seeds import generator

MASK_SIDE = 512  # pixels
SPACING = (3.0, 0.8, 0.8)  # mm between slices, rows, columns
BOXES = {"merge": PromptConfig.merge, "smallest": PromptConfig.smallest}  # as `kitsam embed` keeps them


def make_set(folder: Path, samples: int, grid: int, samples_per_shard: int, mask_side: int = MASK_SIDE) -> None:
    """Write a shard set of random embeddings, stratum by stratum in turn, with simple masks of two kidneys."""
    rng = generator(0, "bench", "shards")
    embedding = rng.standard_normal((256, grid, grid)).astype(np.float16)
    entries = []
    total = -(-samples // samples_per_shard)
    with progress("Writing shards", samples, "samples") as tick:
        for number in range(total):
            stratum = STRATA[number % len(STRATA)]
            name = f"train/{stratum}-{number // len(STRATA):04d}-00.tar"
            with ShardWriter(folder / name) as writer:
                for index in range(min(samples_per_shard, samples - number * samples_per_shard)):
                    _add_sample(writer, np.roll(embedding, index, 0), stratum, number, index, mask_side)
                    tick(1)
            index = writer.index()
            write_index(folder / name, index)
            entries.append(ShardEntry(name, stratum, len(index.samples), index.bytes, index.sha256))
    write_sealed(folder / PLAN, {"units": {}})
    write_manifest(
        folder,
        Manifest(
            format=FORMAT_VERSION,
            kitsam=__version__,
            encoder={"name": "none", "weights_sha256": "", "input_size": grid * 16, "seed": 0},
            input={},
            embedding={"dtype": "float16", "shape": [256, grid, grid]},
            settings={"boxes": BOXES},
            split=Split((), (), None),
            skipped={},
            voxels=(1, 1, 1, 1),
            strata=count_strata(entries),
            train=tuple(entries),
            val=(),
        ),
    )


def _add_sample(writer: ShardWriter, embedding: np.ndarray, stratum: str, case: int, index: int, side: int) -> None:
    mask, boxes = _draw_mask(stratum, index % 5, side)
    pixels = tuple(np.bincount(mask.ravel(), minlength=4).tolist())
    record = SampleRecord(f"case_{case:05d}", index, 0, stratum, pixels, mask.shape, SPACING, ((1, 0, 0), (0, 1, 0)))
    writer.add(embedding, mask, record, boxes)


@cache
def _draw_mask(stratum: str, shift: int, side: int) -> tuple[np.ndarray, MaskBoxes]:
    """(side, side) uint8: two kidneys and what the stratum has, and its boxes."""
    mask = np.zeros((side, side), np.uint8)
    unit = side / 64
    if stratum != "background":
        y, x = (axis / unit for axis in np.ogrid[:side, :side])
        for column in (20, 44):
            mask[(y - 38 - shift) ** 2 / 2 + (x - column) ** 2 < 5**2] = 1
    if "tumor" in stratum:
        mask[int(40 * unit) : int(44 * unit), int(18 * unit) : int(24 * unit)] = 2
    if "cyst" in stratum:
        mask[int(35 * unit) : int(38 * unit), int(42 * unit) : int(45 * unit)] = 3
    return mask, mask_boxes(mask, SPACING[1:], **BOXES)
