"""Options of `kitsam phantom`."""

from dataclasses import dataclass
from pathlib import Path

from kitsam.system.errors import OptionError
from kitsam.system.options import Options, count, number, place

SMALLEST_SIZE, FEWEST_SLICES = 32, 6  # with less the two kidneys cannot be told apart
USUAL_CASES, USUAL_SIZE, USUAL_SLICES = 12, 256, 40  # of drawn data sets


@dataclass
class PhantomConfig(Options, example="kitsam phantom drawn --cases 12 --size 256"):
    """Make a KiTS-layout data set: drawn abdomens with kidneys, tumors and cysts, or CTs rendered over label maps."""

    out: Path = place("new folder", positional=True)
    """folder of the data set"""
    cases: int | None = count(None)
    """number of cases; 12 if not given, with `--labels` all label maps"""
    size: int | None = number(None, least=SMALLEST_SIZE)
    """pixels a side of a slice; 256 if not given"""
    slices: int | None = number(None, least=FEWEST_SLICES)
    """slices of a case; 40 if not given"""
    seed: int = number(0, least=0)
    """the same seed draws the same cases"""
    labels: Path | None = place("folder", None)
    """folder of KiTS label maps (NAME.nii.gz or NAME/segmentation.nii.gz): instead of drawing cases, render a CT over
    each, with its size and its labels"""

    def check(self) -> None:
        for name in ("size", "slices"):
            if self.labels and getattr(self, name) is not None:
                raise OptionError(f"{self.option(name)}: has no place beside --labels: a label map has its own")
