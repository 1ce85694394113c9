"""Options of how the encoder sees a CT slice (windows, channels, augmented views) and of `kitsam fingerprint`."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kitsam.system.errors import OptionError
from kitsam.system.options import Options, amount, number, place, share

Window = tuple[float, float]  # HU, from and to


@dataclass
class InputConfig(Options, section="input"):
    """How a CT slice becomes the three channels that the encoder sees."""

    channels: Literal["gray", "adjacent", "windows"] | None = "gray"
    """gray: the slice thrice; adjacent: slices z-1, z, z+1; windows: the slice in three HU windows; if not given
    windows, for medsam and lite_medsam, which were trained so, gray"""
    window: Window = (-160.0, 240.0)
    """HU range scaled to 0..255"""
    windows: tuple[Window, Window, Window] = ((-160.0, 240.0), (-20.0, 120.0), (50.0, 350.0))
    """the HU ranges of `channels: windows`: soft tissue, lesions, enhancement"""
    crop: Literal["none", "body"] = "none"
    """body: slices are cut to the box that holds the patient's body, so that organs of all patients lie alike"""

    def check(self) -> None:
        for name, window in (("window", self.window), *(("windows", window) for window in self.windows)):
            if not (window[0] < window[1] and all(map(math.isfinite, window))):
                raise OptionError(
                    f"{self.option(name)}: must rise from low to high HU, not {window[0]:g} to {window[1]:g}"
                )


@dataclass
class ViewsConfig(Options, section="views"):
    """Augmented copies of each training slice, embedded beside the plain one; validation is never augmented."""

    count: int = number(1, least=1)
    """views of a slice; the first is the plain slice"""
    rotation: float = number(15.0, least=0, most=180)
    """largest rotation either way, degrees"""
    scale: float = number(0.15, least=0, most=0.9)
    """largest relative change of size either way"""
    contrast: float = amount(0.15)
    """largest relative change of contrast, and of brightness as a share of the window, either way"""
    mirror: bool = False
    """whether every other view is mirrored left to right"""
    shift: float = share(0.0)
    """largest shift either way along both axes, as a share of the slice's longer side"""


@dataclass
class FingerprintConfig(Options, example="kitsam fingerprint KITS23 --out fingerprint"):
    """Measure a data set: sizes, spacing, HU, strata, class weights, outliers."""

    data: Path = place("folder", positional=True)
    """data set in the KiTS or nnU-Net layout"""
    out: Path | None = place("new folder", None)
    """folder for fingerprint.json and fingerprint.png; fingerprint-NAME if not given, for data in a folder NAME"""
