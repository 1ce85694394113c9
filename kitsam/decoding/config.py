"""Options of what stages share: the boxes that decoders are asked with, and the runs that decoders come from."""

from dataclasses import dataclass
from pathlib import Path

from kitsam.ct.labels import TARGETS, Target
from kitsam.system.errors import OptionError
from kitsam.system.options import Options, amount, as_list, share

RUN_FILE = "config.yaml"  # is in the folder of any training run

Runs = list[Path] | Path  # one run, or several whose decoders answer together


@dataclass
class PromptConfig(Options, section="prompt"):
    """The boxes that decoders are asked with."""

    roi_box: tuple[float, float, float, float] = share((0.0, 0.0, 1.0, 1.0))
    """the ROI decoder's one box: x0 y0 x1 y1 as shares of the slice's width and height"""
    margin: float = amount(0.1)
    """a kidney's box is enlarged by this share of its sides, on each side"""
    jitter: float = share(0.1)
    """in training each side of a box moves by up to this share of its length, in or out"""
    sight: float | None = amount(None)
    """how far beyond its box a decoder sees, as a share of the box's sides; without it the whole slice. 0.5 takes a
    third off a lesion decoder's step on a grid of 64 cells"""
    merge: float = amount(8.0)
    """parts of a kidney nearer than this share a box, mm"""
    smallest: float = amount(25.0)
    """parts smaller than this get no box, mm2, unless a slice has no larger one"""

    def check(self) -> None:
        x0, y0, x1, y1 = self.roi_box
        if not (x0 < x1 and y0 < y1):
            raise OptionError(f"{self.option('roi_box')}: x0 y0 must lie before x1 y1, not {x0:g} {y0:g} {x1:g} {y1:g}")


def runs_of(config: Options) -> dict[Target, list[Path]]:
    """By target, of a command with the options `roi`, `tumor` and `cyst`, each of them `Runs`."""
    given = {target: as_list(getattr(config, target)) for target in TARGETS}
    return {target: paths for target, paths in given.items() if paths}


def check_runs(config: Options) -> None:
    """Raises `OptionError` naming an option with a folder that holds no training run, or the same folder twice."""
    for target, paths in runs_of(config).items():
        for path in paths:
            check_run(path, config.option(target))
        places = [path.resolve() for path in paths]
        for path, place in zip(paths, places):
            if places.count(place) > 1:
                raise OptionError(f"{config.option(target)}: {path} is named twice")


def check_run(run: Path | None, option: str) -> None:
    """Raises `OptionError` where a folder holds no training run."""
    if run and not (run / RUN_FILE).is_file():
        raise OptionError(f"{option}: no run in {run}: no {RUN_FILE}")
