"""Options of `kitsam bench`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kitsam.system.options import Device, Options, count, number


@dataclass
class BenchShardsConfig(Options):
    """Samples a second from shards: plain read(), stock WebDataset, kitsam, in one run on the same files."""

    shards: Path | None = None
    """shard set to read; one is made, and removed again, if not given"""
    samples: int = count(512)
    """samples of the set that is made"""
    grid: int = count(64)
    """its embeddings' cells a side: 64 for an input of 1024"""
    samples_per_shard: int = count(64)
    """its samples in a shard"""
    batch_size: int = count(64)
    """slices in a batch"""
    seconds: float = number(5.0, above=0)
    """time that each reader is measured for"""
    work: Path | None = None
    """folder for what is made; the system's for temporary files if not given"""
    json: Path | None = None
    """file for the figures"""


@dataclass
class BenchProcessesConfig(Options):
    """Time of a training step on one process and on several of this machine, and what they wait for: data, each other, the gradients' way."""

    shards: Path | None = None
    """shard set to train on; one is made, and removed again, if not given"""
    grid: int = count(64)
    """embedding cells a side of the set that is made: 64 for an input of 1024"""
    processes: tuple[int, ...] = number((1, 2), least=1)
    """numbers of processes, such as [1, 2, 4]; each takes its share of the batch, and of the processor's cores"""
    batch_size: int = count(8)
    """slices a step, over all processes"""
    steps: int = count(10)
    """steps that are measured, after two that are not"""
    workers: int = number(2, least=0)
    """threads of each process that make batches"""
    device: Device = "auto"
    """auto: a GPU for each process if there is one"""
    work: Path | None = None
    """folder for what is made; the system's for temporary files if not given"""
    json: Path | None = None
    """file for the figures"""


@dataclass
class BenchEvaluatorConfig(Options):
    """Seconds of `kitsam score` against the official way, on label maps of whole KiTS size, in one run on the same files."""

    data: Path | None = None
    """folder of label maps (NAME.nii.gz or NAME/segmentation.nii.gz) to make the files from; drawn cases if not given"""
    cases: int = count(4)
    """cases that are made, over and over from the same label maps where these are fewer"""
    slices: int = count(208)
    """slices of a case: the label maps are tiled"""
    workers: int | None = count(None)
    """processes; one a processor core if not given"""
    work: Path | None = None
    """folder for what is made; the system's for temporary files if not given"""
    json: Path | None = None
    """file for the figures"""


@dataclass
class BenchEncoderConfig(Options):
    """Images a second of the image encoder: segment-anything as its README uses it, kitsam, in one run on the same weights."""

    name: Literal["vit_b", "vit_l", "vit_h"] = "vit_b"
    """which encoder; its weights are random"""
    batch_size: int = count(1)
    """images that kitsam encodes at once; segment-anything takes one"""
    repeats: int = count(2)
    """times that each is measured, after one time that is not"""
    compile: bool = False
    """measure kitsam compiled by torch.compile too, in the number format that it takes on this device"""
    device: Device = "auto"
    """auto: a GPU if there is one"""
    json: Path | None = None
    """file for the figures"""


@dataclass
class BenchDecoderConfig(Options):
    """Training steps a second of the mask decoder: segment-anything's parts as they are, kitsam, in one run on the same weights."""

    batch_size: int = count(32)
    """slices a step, with a box each"""
    grid: int = count(64)
    """cells a side of an embedding: 64 for an input of 1024"""
    repeats: int = count(2)
    """steps that are measured, after one that is not"""
    compile: bool = False
    """measure kitsam compiled by torch.compile too, in the number format that it takes on this device"""
    device: Device = "auto"
    """auto: a GPU if there is one"""
    json: Path | None = None
    """file for the figures"""
