"""Options of `kitsam phantom`."""

from dataclasses import dataclass
from pathlib import Path

from kitsam.system.options import Options, count, number, place

SMALLEST_SIZE, FEWEST_SLICES = 32, 6  # with less the two kidneys cannot be told apart


@dataclass
class PhantomConfig(Options):
    """Make a KiTS-layout data set of drawn abdomens, with kidneys, tumors and cysts."""

    out: Path = place("new folder", positional=True)
    """folder of the data set"""
    cases: int = count(12)
    """number of cases"""
    size: int = number(256, least=SMALLEST_SIZE)
    """pixels a side of a slice"""
    slices: int = number(40, least=FEWEST_SLICES)
    """slices of a case"""
    seed: int = number(0, least=0)
    """the same seed draws the same cases"""
