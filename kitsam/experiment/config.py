"""Options of `kitsam experiment`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kitsam.system.errors import OptionError
from kitsam.system.options import Options, count, place

Part = Literal["all", "embed", "train", "evaluate", "table"]


@dataclass
class ExperimentConfig(
    Options,
    example="kitsam experiment examples/experiment.yaml --data KITS23 --out experiments/paper",
):
    """Compare variants of a recipe over folds and seeds. Started again, it runs what is missing."""

    file: Path = place("file", positional=True)
    """the experiment: base recipe, folds, seeds and variants, as `examples/experiment.yaml` explains"""
    data: Path = place("folder")
    """data set that all variants are trained and evaluated on"""
    out: Path = place("new folder")
    """folder for shard sets, runs, results, table.md, table.json and index.html"""
    part: Part = "all"
    """only the shard sets, the trainings, the evaluations, or the table of what is there"""
    share: str = "1/1"
    """such as 2/3: of what is to be run, the second of three shares, for jobs of a cluster side by side"""
    side_by_side: int = count(1)
    """how many are run at a time, the processor's cores shared among them"""
    start: str = "python -m kitsam"
    """how each is started, such as `torchrun --nproc_per_node 4 -m kitsam`"""
    dry_run: bool = False
    """print what would be run, and run nothing"""

    def check(self) -> None:
        first, last = self.share_of
        if not 1 <= first <= last:
            raise OptionError(f"--share: must be such as 2/3, not {self.share}")

    @property
    def share_of(self) -> tuple[int, int]:
        """Which share of how many."""
        first, slash, last = self.share.partition("/")
        return (int(first), int(last)) if slash and first.isdecimal() and last.isdecimal() else (0, 0)
