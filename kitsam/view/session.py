"""The labels of one scan while a person corrects them: label a box, erase in it, undo, save.

What a box changes is one step. A step keeps the slices that it changed as they were before, compressed, so that any
number of them can be undone: labels shrink to a hundredth. Nothing that was there before is written over.
"""

import threading
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kitsam.api import Model
from kitsam.ct.labels import CLASS_NAMES, KIDNEY
from kitsam.ct.scan_files import Scan, stem
from kitsam.ct.volume import Volume, save_label
from kitsam.inference.drawn import canonical_prompt
from kitsam.inference.measures import volumes_of
from kitsam.inference.model import Question
from kitsam.inference.prompted import CanonicalPrompt, count_slices
from kitsam.inference.scans import BoxPrompt, DrawnBox, as_boxes
from kitsam.inference.work import ScanWork
from kitsam.sam.checkpoints import weights_command
from kitsam.system.console import say
from kitsam.system.errors import KitsamError

SOURCE = "box"  # what errors about a box name
USUAL_MODEL = "lite_medsam"
NO_MODEL = f"no model: nothing can be labelled until {weights_command(USUAL_MODEL)} has run and the viewer starts anew"


class Stopped(KitsamError):
    """The person asked for it."""


@dataclass(frozen=True)
class Step:
    """What one action changed."""

    text: str
    slices: range  # canonical
    before: bytes  # their labels, compressed


class Answer(NamedTuple):
    """What an action did."""

    text: str  # for the person
    slices: range  # canonical slices that are no longer as they were


class Session:
    """One scan, its labels, and the way back. Actions wait for each other."""

    def __init__(
        self,
        scan: Scan,
        volume: Volume,
        label: np.ndarray,  # (S, H, W) uint8, canonical, to be changed
        model: Model | None,
        out: Path,  # where to save, if nothing is there by then
        doubts: Sequence[str] = (),  # what a person should know of scan and labels
    ) -> None:
        self.scan, self.volume, self.label, self.model, self.out = scan, volume, label, model, out
        self.doubts = list(doubts)
        self.steps: list[Step] = []
        self.history: list[str] = []  # what was done, for a page that is loaded again
        self._saved: Step | None = None  # the last step that the file has
        self._wrote = False  # whether `out` is this session's
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._done, self._total = 0.0, 0  # slices of what is being labelled

    @property
    def unsaved(self) -> bool:
        return (self.steps[-1] if self.steps else None) is not self._saved

    def volumes_ml(self) -> dict[str, float]:
        return volumes_of(self.label, self.volume.geometry.voxel_ml)

    def label_box(self, entry: Any) -> Answer:
        """`entry`: as a file of boxes has it (`kitsam predict --boxes`); None labels the whole scan.

        Raises `KitsamError` where there is no model, or the entry is none.
        """
        with self._lock:
            if self.model is None:
                raise KitsamError(NO_MODEL)
            began = time.monotonic()
            boxes = None if entry is None else as_boxes([entry], SOURCE)
            self.model.check_boxes(boxes, SOURCE)
            prompt = canonical_prompt(boxes[0], self.volume.geometry, SOURCE) if boxes else None
            found = self.model.find_labels(Question(self.volume, boxes, SOURCE, None, self._work(prompt)))
            new = _replaced(self.label, found, prompt, one_class=self.model.needs_boxes)
            what = CLASS_NAMES[prompt.label] if self.model.needs_boxes else "labels"
            where = f"found in {_place(boxes[0])}" if boxes else "found in the whole scan"
            return self._change(new, f"{what} {where}, {time.monotonic() - began:.1f} s")

    def _work(self, prompt: CanonicalPrompt | None) -> ScanWork:
        slices = len(self.label)
        if prompt and self.model.needs_boxes:
            slices = count_slices([prompt], slices)
        self._done, self._total = 0.0, slices
        self._stop.clear()
        return ScanWork(self._tick, slices)

    def _tick(self, advance: float = 1, note: str = "") -> None:
        if self._stop.is_set():
            raise Stopped("stopped: the labels are as they were")
        self._done += advance

    def progress(self) -> str:
        """Of what is being labelled."""
        return f"{self._done:.0f} of at most {self._total} slices"

    def stop(self) -> None:
        """End what is being labelled, before its next slice."""
        self._stop.set()

    def erase_box(self, entry: Any) -> Answer:
        """Take the class of `entry` out of its box. Raises as `label_box` does."""
        with self._lock:
            box = as_boxes([entry], SOURCE)[0]
            prompt = canonical_prompt(box, self.volume.geometry, SOURCE)
            new = self.label.copy()
            inside = _inside(new, prompt)
            inside[inside == prompt.label] = 0
            return self._change(new, f"{CLASS_NAMES[prompt.label]} erased in {_place(box)}")

    def undo(self) -> Answer:
        with self._lock:
            if not self.steps:
                return Answer("nothing to undo", range(0))
            step = self.steps.pop()
            part = self.label[step.slices.start : step.slices.stop]
            part[...] = np.frombuffer(zlib.decompress(step.before), np.uint8).reshape(part.shape)
            return self._told(f"undone: {step.text}", step.slices)

    def save(self) -> Answer:
        """Raises `KitsamError` where the file cannot be written."""
        with self._lock:
            if not self._wrote:
                self.out = free_name(self.out)
            save_label(self.out, self.label, self.volume.geometry)
            self._wrote, self._saved = True, self.steps[-1] if self.steps else None
            return self._told(f"saved to {self.out}", range(0))

    def _change(self, new: np.ndarray, text: str) -> Answer:
        changed = np.flatnonzero((new != self.label).any(axis=(1, 2)))
        if not len(changed):
            return self._told(f"{text}: nothing changed", range(0))
        slices = range(int(changed[0]), int(changed[-1]) + 1)
        part = slice(slices.start, slices.stop)
        text = f"{text}: {_difference(self.label[part], new[part], self.volume.geometry.voxel_ml)}"
        self.steps.append(Step(text, slices, zlib.compress(self.label[part].tobytes(), 1)))
        self.label[part] = new[part]
        return self._told(text, slices)

    def _told(self, text: str, slices: range) -> Answer:
        self.history.append(text)
        say(text)
        return Answer(text, slices)


def free_name(path: Path) -> Path:
    """`path`, or NAME-2.nii.gz and so on where something is there."""
    name, number = stem(path), 2
    ending = path.name[len(name) :]
    while path.exists():
        path, number = path.with_name(f"{name}-{number}{ending}"), number + 1
    return path


def _replaced(label: np.ndarray, found: np.ndarray, prompt: CanonicalPrompt | None, one_class: bool) -> np.ndarray:
    """Labels with what was found in a box in place of what they had there."""
    if prompt is None:
        return found
    new = label.copy()
    inside = _inside(new, prompt)
    if not one_class:
        inside[...] = _inside(found, prompt)
        return new
    inside[inside == prompt.label] = 0
    is_found = found == prompt.label
    if prompt.label == KIDNEY:
        is_found &= new == 0  # a kidney's box surrounds its lesions, which stay
    new[is_found] = prompt.label
    return new


def _place(drawn: DrawnBox) -> str:
    """A box as a file of boxes has it."""
    if isinstance(drawn, BoxPrompt):
        return f"box {drawn.box}{' and beyond' if drawn.propagate else ''}"
    return f"box {drawn}"


def _inside(volume: np.ndarray, prompt: CanonicalPrompt) -> np.ndarray:
    """A view of the voxels in a box."""
    x0, y0, x1, y1 = prompt.corners.astype(int)
    return volume[prompt.slices.start : prompt.slices.stop, y0:y1, x0:x1]


def _difference(before: np.ndarray, after: np.ndarray, voxel_ml: float) -> str:
    """What grew and what shrank, in mL."""
    parts = []
    for number, name in enumerate(CLASS_NAMES[1:], 1):
        more = np.count_nonzero(after == number) - np.count_nonzero(before == number)
        if more:
            parts.append(f"{name} {more * voxel_ml:+.2f} mL")
    slices = np.flatnonzero((before != after).any(axis=(1, 2)))
    return f"{', '.join(parts) or 'same volume'} in {len(slices)} slice{'s' if len(slices) > 1 else ''}"
