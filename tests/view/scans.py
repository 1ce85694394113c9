"""A scan that no axis of the page agrees with, and a model that finds what is bright."""

from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from tiny import IPL, draw_case

from kitsam.api import Model
from kitsam.inference.model import Question
from kitsam.inference.result import ModelName

BRIGHT = 120  # HU: above are the kidneys that `draw_case` draws, below their masses


def tilt(degrees: float) -> np.ndarray:
    """(4, 4): a rotation about two of the patient's axes."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    about_x, about_z = np.eye(4), np.eye(4)
    about_x[1:3, 1:3] = about_z[:2, :2] = [[cos, -sin], [sin, cos]]
    return about_x @ about_z


def write_scan(folder: Path, axes: str, degrees: float = 0) -> Path:
    """A drawn case whose file has its axes in this order, the whole tilted by so many degrees."""
    image, _ = draw_case(0)
    image = image[:, 6:, :]  # so that no two axes are of one length
    way = ornt_transform(axcodes2ornt("IPL"), axcodes2ornt(axes))
    affine = tilt(degrees) @ IPL @ inv_ornt_aff(way, image.shape)
    path = folder / "scan.nii.gz"
    nib.save(nib.Nifti1Image(apply_orientation(image, way), affine), path)
    return path


def bright_model() -> Model:
    """What is bright in a box gets its label, on the scan's own voxels; with `propagate` on all slices."""

    def find_labels(question: Question) -> np.ndarray:
        geometry, (prompt,) = question.volume.geometry, question.boxes
        voxels = geometry.in_file_order(question.volume.voxels)
        found, low, high = np.zeros(voxels.shape, np.uint8), list(prompt.box[:3]), list(prompt.box[3:])
        axis = int(geometry.to_file[0, 0])  # of the slices
        if prompt.propagate:
            low[axis], high[axis] = 0, voxels.shape[axis] - 1
        inside = tuple(slice(first, last + 1) for first, last in zip(low, high))
        question.work.add(0.5)
        found[inside] = prompt.label * (voxels[inside] > BRIGHT)
        to_canonical = ornt_transform(axcodes2ornt("RAS"), geometry.to_file)
        return apply_orientation(found, to_canonical)

    return Model(ModelName("bright", "", "what is bright"), True, torch.device("cpu"), find_labels)
