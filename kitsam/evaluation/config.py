"""Options of `kitsam evaluate` and `kitsam score`."""

from dataclasses import dataclass, field
from pathlib import Path

from kitsam.decoding.config import Runs, check_runs, runs_of
from kitsam.inference.config import CascadeConfig
from kitsam.shards.config import CacheConfig, check_shards
from kitsam.system.errors import OptionError
from kitsam.system.options import Device, Options, count, number, place


@dataclass
class EvaluateConfig(
    Options,
    example="kitsam evaluate --shards shards/kits23 --data KITS23 --roi runs/roi --tumor runs/tumor --out runs/results",
):
    """Label the validation cases from their shards and compare with the truth, by the official KiTS23 metrics."""

    shards: str
    """shard set that `kitsam embed` wrote: a folder or an address"""
    data: Path = place("folder")
    """the data set it was made from: the truth at full resolution"""
    out: Path = place("new folder")
    """folder for metrics.csv, metrics.json and the predicted label maps"""
    roi: Runs | None = place("folder", None)
    """run of the ROI decoder, or runs of several folds or seeds: their probabilities are averaged"""
    tumor: Runs | None = place("folder", None)
    """run or runs of the tumor decoder; without it nothing is labelled tumor"""
    cyst: Runs | None = place("folder", None)
    """run or runs of the cyst decoder; without it nothing is labelled cyst"""
    zero_shot: bool = False
    """ask the decoder of the encoder's own checkpoint with true boxes, without any run: an untrained baseline"""
    flips: bool = False
    """encode each slice mirrored left to right, from the scans in `--data`, and average both answers"""
    encoder_checkpoint: Path | None = place("file", None)
    """for `--flips`: the encoder's weights, where they are not those that `kitsam weights` cached"""
    against: Path | None = place("folder", None)
    """results of another evaluation of these cases, such as one by `--zero-shot`, to compare with case by case; or any
    folder with the official metrics.csv"""
    fold: int | None = number(None, least=0)
    """which fold of a set that was embedded with `--folds`; the first is 0"""
    cascade: CascadeConfig = field(default_factory=CascadeConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    workers: int = count(2)
    """processes beside each process that write and score label maps while the device goes on"""
    device: Device = "auto"
    """auto, cpu, mps (Apple), cuda, or one GPU such as cuda:1; auto: a GPU if there is one"""

    def check(self) -> None:
        given = runs_of(self)
        if self.zero_shot and given:
            raise OptionError(f"--zero_shot: no run is asked, so --{next(iter(given))} has no place beside it")
        if self.zero_shot and self.flips:
            raise OptionError("--flips: for trained decoders, it has no place beside --zero_shot")

    def check_places(self) -> None:
        super().check_places()
        from kitsam.ct.case import find_cases  # which takes half a second

        if not (self.zero_shot or "roi" in runs_of(self)):
            raise OptionError("--roi: must be given, or --zero_shot for a baseline without training")
        check_runs(self)
        check_shards(self.shards, self.option("shards"))
        find_cases(self.data)


@dataclass
class ScoreConfig(Options, example="kitsam score LABELS --data KITS23 --out scores"):
    """Compare the label maps of any system with the truth, by the official KiTS23 metrics."""

    predictions: Path = place("folder", positional=True)
    """folder of case_XXXXX.nii.gz label maps"""
    data: Path = place("folder")
    """data set with the true segmentations"""
    out: Path = place("new folder")
    """folder for metrics.csv and metrics.json"""
    splits: Path | None = place("file", None)
    """score the validation cases only: splits.json of a shard set, or nnU-Net's splits_final.json (its first fold)"""
    only_present: bool = False
    """leave cases without a prediction out, instead of counting them 0"""
    against: Path | None = place("folder", None)
    """what to compare with, case by case: a folder that kitsam wrote metrics.json to, or any with the official
    metrics.csv, or of label maps"""
    workers: int | None = count(None)
    """processes; one a processor core if not given. Each needs the memory of three label maps"""

    def check_places(self) -> None:
        super().check_places()
        from kitsam.ct.case import find_cases  # which takes half a second

        find_cases(self.data)
