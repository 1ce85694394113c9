"""What `import kitsam` offers a program or a notebook: a model that stays loaded, scores, and shard sets as tensors.

    model = kitsam.load_model("kidney.safetensors")
    prediction = model.predict("scan.nii.gz")
    kitsam.score(prediction, "truth.nii.gz").summary

`kitsam predict` and `kitsam score` use the same functions. Errors are kitsam's own (`kitsam.KitsamError` is the base
of all), with the file in their text.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import nibabel as nib
import numpy as np
import torch
from torch import Tensor

from kitsam.ct.labels import CYST
from kitsam.ct.strata import STRATA
from kitsam.ct.volume import Geometry, Volume, check_same_place, check_same_shape, read_label
from kitsam.evaluation.metrics import CaseScores, score_case
from kitsam.inference.model import Model, load_model
from kitsam.inference.result import Prediction
from kitsam.shards.batches import batches, case_batches
from kitsam.shards.reader import Samples, ShardSet
from kitsam.system.errors import CaseError

__all__ = ["Batch", "Model", "Prediction", "ShardBatches", "load_model", "open_shards", "score"]


def score(prediction: Prediction | str | Path, truth: str | Path | np.ndarray) -> CaseScores:
    """The official KiTS23 metrics of one case.

    `prediction`: what `Model.predict` gave, or the path of a label map. `truth`: the path of a label map (0 background,
    1 kidney, 2 tumor, 3 cyst), or an array with the axes of the prediction's `label`. Of the result, `columns` has the
    official six scores, `summary` the five figures of the paper, `tumors` and `cysts` the lesions found and missed.

    Raises `CaseError` for a file that cannot be read, or maps that do not lie at the same place.
    """
    found = _labels_of(prediction)
    if isinstance(truth, np.ndarray):
        true = _canonical_truth(truth, found.geometry)
    else:
        volume = read_label(Path(truth))
        check_same_shape(Path(truth), volume, found)
        check_same_place(Path(truth), volume.geometry, found.geometry)
        true = volume.voxels
    return score_case(true, found.voxels, found.spacing, found.geometry.voxel_ml)


def _labels_of(prediction: Prediction | str | Path) -> Volume:
    if isinstance(prediction, Prediction):
        return Volume(prediction.canonical, prediction.volume.spacing, prediction.geometry)
    return read_label(Path(prediction))


def _canonical_truth(truth: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Labels with the axes of a file -> (S, H, W) uint8."""
    # The way back; that of the geometry itself leads to the file, and is its own inverse for some orientations only.
    to_canonical = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), geometry.to_file)
    expected = tuple(int(size) for size in geometry.in_file_order(np.empty(geometry.shape, bool)).shape)
    if truth.shape != expected:
        raise CaseError(f"truth: shape {truth.shape} differs from the prediction's {expected}")
    if not np.isin(truth, range(CYST + 1)).all():
        raise CaseError("truth: holds labels other than 0 (background), 1 (kidney), 2 (tumor), 3 (cyst)")
    return nib.orientations.apply_orientation(truth.astype(np.uint8), to_canonical)


class Batch(NamedTuple):
    """Some slices of a shard set."""

    embeddings: Tensor  # (B, 256, G, G) float16, or float32 from a set that stores int8
    masks: Tensor  # (B, S, S) uint8 labels, each slice's in the upper left corner, 0 beside it
    keys: list[str]  # case-slice-view of each


@dataclass(frozen=True)
class ShardBatches:
    """The batches of a shard set, one pass; `open_shards` makes one. Each `for` begins anew, in the same order."""

    shards: ShardSet
    split: Literal["train", "val"]
    batch_size: int
    quotas: "str | dict[str, float]"
    seed: int
    steps: int | None

    def __len__(self) -> int:
        """Batches of a pass."""
        if self.split == "val":
            return sum(-(-case.samples // self.batch_size) for case in self.shards.manifest.val)
        samples = sum(shard.samples for shard in self.shards.manifest.train)
        return -(-samples // self.batch_size) if self.steps is None else self.steps

    def __iter__(self) -> Iterator[Batch]:
        if self.split == "val":
            return case_batches(self.shards, self.shards.manifest.val, self.batch_size, self._batch)
        order = self.shards.order(self.quotas, self.batch_size, self.seed, STRATA)
        return batches(self.shards, order, range(len(self)), self._batch)

    def _batch(self, _: int, samples: Samples) -> Batch:
        # The reader uses its memory again for the next batch; these tensors are the caller's to keep.
        embeddings = samples.embeddings(torch.device("cpu"))
        keys = [self.shards.entry(place).key for place in samples.places]
        return Batch(embeddings.clone(), samples.squares.clone(), keys)


def open_shards(
    shards: str | Path,
    split: Literal["train", "val"] = "train",
    batch_size: int = 8,
    quotas: "str | dict[str, float]" = "natural",
    seed: int = 0,
    steps: int | None = None,
    fold: int | None = None,
) -> ShardBatches:
    """A shard set that `kitsam embed` wrote, as an iterable of `Batch`es of tensors.

    `shards`: folder or address. `split`: "train", in the order of training with this `seed`, where a batch has the
    strata in the shares of `quotas` ("natural": as the data has them); or "val", all slices case by case. `steps`:
    batches of training; as many as the set has samples, if not given. `fold`: of a set with folds.

    Raises `OptionError` where there is no such set or fold, `ShardError` for a damaged one while it is read.
    """
    return ShardBatches(ShardSet(shards, option="shards", fold=fold), split, batch_size, quotas, seed, steps)
