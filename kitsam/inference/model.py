"""A model that stays loaded and labels one scan after another: what `kitsam predict` and a notebook use.

    model = kitsam.load_model("kidney.safetensors")
    prediction = model.predict("scan.nii.gz")

The scan is brought to the canonical frame, its slices are encoded, the cascade labels it, and the labels go back to
the file's own axes. Memory: the scan in float32, its embeddings (`scan_embeddings.py`), two or three label volumes,
and two bytes a voxel for each decoder's probabilities where these are kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kitsam.ct.body import find_body
from kitsam.ct.config import InputConfig
from kitsam.ct.scan import ScanInMemory, read_scan, scan_in_memory
from kitsam.ct.scan_files import Scan, find_files
from kitsam.ct.views import View
from kitsam.ct.volume import Volume
from kitsam.inference.answers import Answers
from kitsam.inference.bundle import read_bundle
from kitsam.inference.card import line_of_checkpoint
from kitsam.inference.cascade import EmbeddingSource, cascade_of, ignore, label_volume
from kitsam.inference.config import names_checkpoint
from kitsam.inference.drawn import canonical_boxes, canonical_prompt
from kitsam.inference.predictions import model_file
from kitsam.inference.prompted import LazyEmbeddings, RecentEmbeddings, count_slices, label_in_boxes
from kitsam.inference.result import ModelName, Prediction, as_prediction
from kitsam.inference.scan_embeddings import encode_scan, grays_of
from kitsam.inference.scans import BoxPrompt, DrawnBox, as_boxes
from kitsam.inference.work import BOXES, HEAVY, LIGHT, ScanWork, no_work
from kitsam.sam.checkpoints import CHECKPOINTS
from kitsam.sam.config import WeightsConfig
from kitsam.sam.encoder import Encoder
from kitsam.sam.encoding import SliceEncoder
from kitsam.sam.pretrained import read_pretrained
from kitsam.sam.tiny_vit import TinyViT
from kitsam.sam.weights import run as fetch_weights
from kitsam.system.devices import to_device
from kitsam.system.errors import OptionError
from kitsam.system.files import sha256_of
from kitsam.system.options import Precision
from kitsam.system.processes import find_device, use_bfloat16


@dataclass(frozen=True)
class Question:
    """What is asked of a scan."""

    volume: Volume
    boxes: list[DrawnBox] | None
    source: str  # of the boxes, for errors
    answers: Answers | None  # takes the probabilities
    work: ScanWork


FindLabels = Callable[[Question], np.ndarray]  # -> (S, H, W) uint8 labels in the canonical frame


@dataclass(frozen=True)
class Model:
    """A bundle, or a checkpoint with a decoder of its own, on its device. `load_model` makes one."""

    name: ModelName
    needs_boxes: bool  # a checkpoint's decoder finds what boxes surround, and nothing without
    device: torch.device
    find_labels: FindLabels
    flips: bool = False  # whether slices are encoded mirrored too

    def predict(
        self, scan: "str | Path | ScanInMemory", boxes: Sequence[Any] | None = None, probabilities: bool = True
    ) -> Prediction:
        """Label one scan.

        `scan`: a path (NIfTI, NRRD, MetaImage, a folder of a DICOM series or of a KiTS case), an image of nibabel or
        SimpleITK, or a tuple (array, spacing, affine) with the array's axes in the order of the affine's columns, HU.
        `boxes`: instead of the ROI decoder's own, or for a checkpoint: a list of [i0, j0, k0, i1, j1, k1], voxel
        indices of the scan, ends included, in the order of axes in which nibabel (for DICOM: column, row, slice)
        gives it; for a checkpoint also of {"box": [...], "label": 2, "propagate": True}.
        `probabilities`: whether to keep those of the decoders, two bytes a voxel each.

        Raises `CaseError` for a scan that cannot be used or a box that leaves it, `OptionError` for a path that means
        no scan, or several, and for boxes that are none.
        """
        where = one_scan(scan) if isinstance(scan, (str, Path)) else None
        volume = read_scan(where) if where else scan_in_memory(scan, "scan")
        entries = None if boxes is None else as_boxes(_plain_entries(boxes), "boxes")
        return self.predict_volume(volume, where, entries, probabilities=probabilities)

    def predict_volume(
        self,
        volume: Volume,
        where: Scan | None,
        boxes: list[DrawnBox] | None = None,
        source: str = "boxes",
        probabilities: bool = False,
        work: ScanWork | None = None,
    ) -> Prediction:
        """As `predict`, of a scan that was read. `source`: what errors about boxes name; `work` is told of progress."""
        self.check_boxes(boxes, source)
        answers = Answers(volume.voxels.shape) if probabilities else None
        label = self.find_labels(Question(volume, boxes, source, answers, work or no_work()))
        return as_prediction(self.name, volume, where, label, boxes, answers, self.flips)

    def check_boxes(self, boxes: list[DrawnBox] | None, source: str) -> None:
        """Raises `OptionError` naming `source` where boxes are not what the model needs."""
        if self.needs_boxes and not boxes:
            raise OptionError(f"{source}: {self.name.text} finds what a box surrounds, and there is none")
        if not self.needs_boxes and any(isinstance(box, BoxPrompt) for box in boxes or ()):
            raise OptionError(f"{source}: label and propagate are for a checkpoint's own decoder (lite_medsam)")


def load_model(
    model: str | Path,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    batch_size: int = 4,
    flips: bool = False,
) -> Model:
    """Load a model once, to label many scans by `Model.predict`.

    `model`: a bundle that `kitsam bundle` wrote, or the name of an encoder whose checkpoint has a decoder, such as
    "lite_medsam", whose weights are fetched as `kitsam weights` does where the cache lacks them. `device`: "auto" (a
    GPU if there is one), "cpu", "mps", "cuda", "cuda:1" or a torch.device. `precision`: of the encoder, "fp32", "bf16",
    or "auto": bf16 on a GPU that has it. `batch_size`: slices encoded at once. `flips`: a bundle's slices are also
    encoded mirrored left to right, and both answers averaged.

    Raises `OptionError` where there is no such file or device, `KitsamError` where the file is no bundle.
    """
    path = Path(model)
    if not isinstance(device, torch.device):
        device = find_device(device)
    if names_checkpoint(path):
        return _checkpoint_model(path, device, precision, batch_size)
    if not path.is_file():
        known = ", ".join(CHECKPOINTS)
        raise OptionError(f"model: no such file: {path}, and no name of a checkpoint (these are {known})")
    return _bundle_model(path, device, precision, batch_size, flips)


def one_scan(path: str | Path) -> Scan:
    """Raises `OptionError` where a path means no scan, or several."""
    scans = find_files(Path(path), "scan")
    if len(scans) > 1:
        names = ", ".join(str(scan.path) for scan in scans[:3])
        raise OptionError(f"scan: {path}: holds {len(scans)} scans, give one of them: {names}...")
    return scans[0]


def _plain_entries(boxes: Sequence[Any]) -> list[Any]:
    """Entries as JSON would have them: numpy's numbers as Python's; six numbers alone are one box."""
    entries = np.asarray(boxes).tolist() if isinstance(boxes, np.ndarray) else list(boxes)
    if len(entries) == 6 and all(isinstance(entry, (int, np.integer)) for entry in entries):
        entries = [entries]
    return [entry if isinstance(entry, dict) else _plain_box(entry) for entry in entries]


def _plain_box(entry: Any) -> Any:
    is_row = isinstance(entry, (list, tuple, np.ndarray))
    return [int(index) if isinstance(index, np.integer) else index for index in entry] if is_row else entry


def _bundle_model(path: Path, device: torch.device, precision: Precision, batch_size: int, flips: bool) -> Model:
    """The cascade of a bundle."""
    bundle = read_bundle(path)
    encode = _slice_encoder(bundle.encoder, bundle.input, precision, device, batch_size)
    cascade = cascade_of(bundle.decoders, bundle.cascade, device, bundle.second_look)
    shares = LIGHT if isinstance(bundle.encoder.vit, TinyViT) or bundle.encoder.input_size < 512 else HEAVY

    def find_labels(question: Question) -> np.ndarray:
        volume, work, answers = question.volume, question.work, question.answers
        boxes = None
        if question.boxes is not None:
            boxes = canonical_boxes(question.boxes, volume.geometry, question.source)
        body = find_body(volume.voxels, volume.spacing[1:]) if bundle.input.crop == "body" else None
        voxels = body.cut(volume.voxels) if body else volume.voxels
        if body and boxes is not None:
            boxes = boxes.inside(body)
        if body and answers is not None:
            answers.body = body

        def tick(slices: int) -> None:
            work.add(shares["encode"] * slices / (len(voxels) * (1 + flips)))

        source = _with_work(encode_scan(voxels, encode, batch_size, tick, flips), work, shares, len(voxels))
        listener = ignore if answers is None else answers.keep
        grays = grays_of(voxels, bundle.input)
        label = label_volume(cascade, source, voxels.shape, volume.spacing, boxes, listener, grays)
        return body.put_back(label, volume.voxels.shape) if body else label

    return Model(ModelName(str(path.absolute()), sha256_of(path), bundle.about), False, device, find_labels, flips)


def _with_work(embeddings: EmbeddingSource, work: ScanWork, shares: dict[str, float], slices: int) -> EmbeddingSource:
    """The same embeddings; the cascade asks for all slices for the ROI, then for some of them for lesions."""
    asked = 0

    def source(first: int, count: int) -> Any:
        nonlocal asked
        work.add(shares["roi" if asked < slices else "lesions"] * count / slices)
        asked += count
        return embeddings(first, count)

    return source


def _checkpoint_model(path: Path, device: torch.device, precision: Precision, batch_size: int) -> Model:
    """A checkpoint's own decoder, which finds what boxes surround."""
    name = str(path)
    if not CHECKPOINTS[name].path.is_file():
        fetch_weights(WeightsConfig(name))
    encoder, decoder = read_pretrained(name)
    encode = _slice_encoder(encoder, InputConfig(), precision, device, batch_size)
    decoder.to(device).eval()
    recent = RecentEmbeddings()

    def find_labels(question: Question) -> np.ndarray:
        volume = question.volume
        prompts = [canonical_prompt(box, volume.geometry, question.source) for box in question.boxes]
        image = to_device(torch.from_numpy(volume.voxels), device)
        expected = max(count_slices(prompts, len(image)), 1)

        def encode_slices(slices: list[int]) -> Tensor:
            parts = [slices[first : first + batch_size] for first in range(0, len(slices), batch_size)]
            question.work.add(BOXES["encode"] * len(slices) / expected)
            return torch.cat([encode(image, part, [View()] * len(part)) for part in parts])

        embeddings = LazyEmbeddings(encode_slices, recent.of(volume))
        return label_in_boxes(decoder, embeddings, prompts, volume.voxels.shape, batch_size, question.answers)

    digest = sha256_of(model_file(path))
    return Model(ModelName(name, digest, line_of_checkpoint(name, digest)), True, device, find_labels)


def _slice_encoder(
    encoder: Encoder, input: InputConfig, precision: Precision, device: torch.device, batch_size: int
) -> SliceEncoder:
    encode = SliceEncoder(encoder, input, use_bfloat16(precision, device), device, batch_size)
    encode.choose_attention("auto")
    return encode
