"""Options of `kitsam bundle` and `kitsam predict`, and of the way from decoders to a label volume."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from kitsam.decoding.config import Runs, check_runs
from kitsam.sam.config import CheckpointName
from kitsam.system.errors import OptionError
from kitsam.system.options import (
    Device,
    Options,
    Precision,
    amount,
    as_list,
    check_place,
    count,
    place,
    positional,
    share,
)


@dataclass
class CascadeConfig(Options, section="cascade"):
    """From the three decoders' answers to one label volume."""

    roi_threshold: float = share(0.5)
    """probability above which a voxel belongs to the ROI"""
    lesion_threshold: float = share(0.5)
    """probability above which a voxel of the ROI is tumor or cyst"""
    smallest_roi: float = amount(2.0)
    """3-D parts of the ROI smaller than this are dropped, mL; what the scan's end cuts is taken to go on as far as it
    is wide there"""
    smallest_lesion: float = amount(0.5)
    """3-D parts of a tumor or cyst smaller than this become kidney, mL; 0.5 is a ball of 1 cm"""
    second_look: bool | None = None
    """ask the decoder of the encoder's own checkpoint too: with a box around each kidney, where both answers are
    averaged, and around each part of a tumor or cyst, to which is added what it sees; if not given: where that decoder
    is MedSAM's, which knows the outlines of organs and lesions"""
    batch_size: int = count(16)
    """slices, or boxes, decoded at once"""


@dataclass
class BundleConfig(
    Options,
    example="kitsam bundle --roi runs/roi --tumor runs/tumor --cyst runs/cyst --out model.safetensors",
):
    """Put encoder, decoders and settings into one file, all that `kitsam predict` needs."""

    roi: Runs = place("folder")
    """run of the ROI decoder, or runs of several folds or seeds: their probabilities are averaged"""
    out: Path = place("new file")
    """the .safetensors file"""
    tumor: Runs | None = place("folder", None)
    """run or runs of the tumor decoder"""
    cyst: Runs | None = place("folder", None)
    """run or runs of the cyst decoder"""
    cascade: CascadeConfig = field(default_factory=CascadeConfig)
    encoder_checkpoint: Path | None = place("file", None)
    """the encoder's weights, where they are not those that `kitsam weights` cached"""
    metrics: Runs | None = place("folder", None)
    """for the card: folder that `kitsam evaluate` wrote of these runs, or several, such as one of each fold"""
    data_name: str | None = None
    """for the card: what the training data is called, such as KiTS23"""
    data_license: str | None = None
    """for the card: license of the training data, such as CC BY-NC-SA 4.0"""

    def check(self) -> None:
        if not as_list(self.roi):
            raise OptionError(f"{self.option('roi')}: must name one run at least")

    def check_places(self) -> None:
        super().check_places()
        check_runs(self)


@dataclass
class PredictConfig(Options, example="kitsam predict scan.nii.gz --model model.safetensors --out labels"):
    """Label kidneys, tumors and cysts in CT volumes."""

    ct: list[Path] = positional()
    """CT volumes (.nii.gz, .nii, .hdr with .img, .nrrd, .nhdr, .mha, .mhd), folders of a DICOM series, KiTS case
    folders, or folders of any of these"""
    model: Path
    """bundle that `kitsam bundle` wrote; or the name of an encoder whose checkpoint `kitsam weights` cached, such as
    lite_medsam, for its own decoder to find what the boxes surround"""
    out: Path = place("new folder")
    """folder for NAME.nii.gz label maps, NAME.png overlays, NAME.json with volumes, lesions and what they were made
    from; volumes.csv and predictions.json of all scans; and labels.ctbl, the labels' colors for 3D Slicer"""
    boxes: Path | None = place("file", None)
    """JSON with boxes to use instead of the ROI's: {"NAME": [[i0, j0, k0, i1, j1, k1], ...]}, voxel indices of the
    file, ends included; for a checkpoint also {"box": [...], "label": 2, "propagate": true}: the class of what is
    found (1 if not given), and whether it is followed into the slices beyond"""
    flips: bool = False
    """encode each slice mirrored left to right too and average both answers: twice the time"""
    probabilities: bool = False
    """also write NAME_probabilities.npz: what each decoder says of each voxel, on the label map's axes"""
    dicom_seg: bool = False
    """also write NAME.seg.dcm, a DICOM segmentation that refers to the slices of the series; for DICOM only"""
    overwrite: bool = False
    """label every scan anew, also those that have a label map in `--out`, whatever wrote it"""
    batch_size: int = count(4)
    """slices encoded at once"""
    precision: Precision = "auto"
    """of the encoder; auto: bf16 on a GPU that has it, fp32 elsewhere"""
    device: Device = "auto"
    """auto, cpu, mps (Apple), cuda, or one GPU such as cuda:1; auto: a GPU if there is one"""

    def check_places(self) -> None:
        from kitsam.inference.scans import find_scans

        find_scans(self.ct)
        super().check_places()
        if not names_checkpoint(self.model):
            _check_model(self.model, self.option("model"))
        elif self.flips:
            raise OptionError(f"{self.option('flips')}: for bundles, not for a checkpoint's own decoder")


def _check_model(model: Path, option: str) -> None:
    """Raises `OptionError` where there is no such file; it may be meant for an encoder's name."""
    try:
        check_place(option, model, "file")
    except OptionError as error:
        from kitsam.system.command_line import did_you_mean

        raise OptionError(f"{error}{did_you_mean(str(model), get_args(CheckpointName))}") from error


def names_checkpoint(model: Path) -> bool:
    """Whether a model is not a file but the name of an encoder with a checkpoint."""
    return str(model) in get_args(CheckpointName) and not model.exists()
