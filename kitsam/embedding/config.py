"""Options of `kitsam embed`. What is not given is the recommended recipe, that of `configs/embed.yaml`."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from kitsam.ct.config import InputConfig, ViewsConfig
from kitsam.sam.config import EncoderConfig
from kitsam.shards.config import Storage
from kitsam.system.options import Compile, Device, Options, Precision, amount, count, number, place

SEE_GRAY = ("medsam", "lite_medsam")  # encoders that were trained on CT as gray pictures


@dataclass
class EmbedConfig(Options, example="kitsam embed --config configs/embed.yaml --data KITS23 --out shards/kits23"):
    """Turn CT slices into SAM embeddings, in WebDataset shards. Started again, it does only what is missing."""

    data: Path = place("folder")
    """data set in the KiTS layout (case_00000/imaging.nii.gz, segmentation.nii.gz) or nnU-Net's (imagesTr, labelsTr)"""
    out: Path = place("new folder")
    """folder of the shard set"""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    input: InputConfig = field(default_factory=lambda: InputConfig(channels=None))
    views: ViewsConfig = field(default_factory=lambda: ViewsConfig(count=2))
    splits: Path | None = place("file", None)
    """splits.json, or nnU-Net's splits_final.json (its first fold); drawn by `--val-fraction` and `--seed` if not
    given"""
    folds: int | None = number(None, least=2)
    """make a set for so many folds, for `train --fold` and `evaluate --fold`: all cases train and validate; dealt by
    `--seed`, or all folds of `--splits`"""
    val_fraction: float = number(0.1, above=0, below=1)
    """share of the cases kept for validation"""
    background_ratio: float = amount(1.0)
    """slices without kidney kept of a training case, per slice with one"""
    group_cases: int = count(16)
    """training cases whose slices are scattered over the same shards: what is redone at most after a stop"""
    shard_samples: int = count(512)
    """most samples in a training shard"""
    batch_size: int = count(4)
    """slices encoded at once"""
    keep_ct: bool = False
    """keep the CT slices themselves in the shards too, as 8-bit pictures (KEY.ct.png) in the encoder's first window"""
    storage: Storage = "float16"
    """of the embeddings; int8, with a scale per channel, takes half the disk"""
    precision: Precision = "auto"
    """of the encoder; auto: bf16 on a GPU that has it; on a CPU that has instructions for it and ten minutes of work,
    bf16 if it is measured to be 1.2 times as fast; else fp32. A set that was begun keeps its format on any machine.
    Where bf16 is faster by about that, two new sets may differ: name a format if they must have the same bytes"""
    compile: Compile = "auto"
    """the encoder, by torch.compile; auto: on a GPU with at least ten minutes of work, if a measurement says that it
    pays; never on a CPU. Unless no, a GPU's attention is compiled in any case, where torch can do it"""
    device: Device = "auto"
    """auto, cpu, mps (Apple), cuda, or one GPU such as cuda:1; auto: a GPU if there is one"""
    seed: int = number(0, least=0)
    """of the split, the groups, the background slices and the views"""
    dry_run: bool = False
    """print slices, bytes and time to expect, and write nothing"""
    processes: int = count(1)
    """with `--dry-run`: how many processes the time is for, and how evenly they share the work"""

    def __post_init__(self) -> None:
        if self.input.channels is None:
            self.input = replace(self.input, channels="gray" if self.encoder.name in SEE_GRAY else "windows")
        super().__post_init__()

    def check_places(self) -> None:
        super().check_places()
        from kitsam.ct.case import find_cases  # which takes half a second
        from kitsam.sam.checkpoints import check_cached

        find_cases(self.data)
        if not self.dry_run and self.encoder.name != "tiny" and self.encoder.checkpoint is None:
            check_cached(self.encoder.name)
