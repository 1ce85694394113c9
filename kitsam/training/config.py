"""Options of `kitsam train`. A field made by `may_change`, or with that argument, may differ when a run goes on."""

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from kitsam.ct.labels import Target
from kitsam.ct.strata import POSITIVE_BALANCE, strata_for
from kitsam.decoding.config import PromptConfig, check_run
from kitsam.shards.config import CacheConfig, check_shards
from kitsam.system.errors import OptionError
from kitsam.system.options import (
    Compile,
    Device,
    Options,
    Precision,
    amount,
    count,
    may_change,
    number,
    place,
    share,
)


@dataclass
class OptimizerConfig(Options, section="optimizer"):
    """AdamW with a linear warm-up, then a cosine."""

    peak_rate: float = amount(5e-5)
    """learning rate after the warm-up"""
    final_rate: float = amount(0.0)
    """learning rate at the last step"""
    warmup_steps: int = number(250, least=0)
    """steps of linear warm-up"""
    weight_decay: float = amount(0.1)
    """decoupled weight decay"""
    betas: tuple[float, float] = share((0.9, 0.999))
    """decay of AdamW's moments"""
    clip_norm: float = amount(1.0)
    """largest norm of the gradient; 0: not clipped"""

    def check(self) -> None:
        if max(self.betas) == 1:
            raise OptionError(f"{self.option('betas')}: must be below 1, not {max(self.betas):g}")


@dataclass
class LossConfig(Options, section="loss"):
    """Weighted sum of Dice and cross-entropy, per box, at the logits' resolution."""

    dice: float = amount(1.0)
    """weight of the Dice loss"""
    cross_entropy: float = amount(1.0)
    """weight of the cross-entropy"""
    balance: float = amount(POSITIVE_BALANCE)
    """exponent on the data's negative:positive ratio that weighs positive pixels; 0: all alike, 1: both classes
    weigh the same"""
    cases: float = share(0.0)
    """how alike cases count, however many slices they have: 0: slices count alike, 1: cases do, as in the official
    Dice; between them the slices' number to the power of it"""
    lesion: float = amount(3.0)
    """how much a pixel of a tumor or cyst counts for the ROI decoder, which misses them more easily than kidney"""

    def check(self) -> None:
        if not self.dice and not self.cross_entropy:
            raise OptionError(f"{self.option('dice')}: cannot be 0 where {self.option('cross_entropy')} is 0 too")


@dataclass
class ValidationConfig(Options, section="validation"):
    """Dice over the whole validation cases, with boxes of the true ROI."""

    every: int = count(250)
    """steps between validations"""
    patience: int = number(0, least=0)
    """stop after so many validations without a better one; 0: never"""
    select: Literal["dice", "dice_pooled"] = "dice"
    """the best decoder has the highest mean of the cases' Dice, or Dice of all cases' voxels together; a case without
    what is to be found counts 1 if nothing is found in it, a decoder that finds nothing anywhere counts 0"""


@dataclass
class TrainConfig(Options):
    """Train one mask decoder on a shard set. The same command again resumes."""

    target: Target
    """roi: kidney with all masses, from one fixed box; tumor, cyst: from a box per kidney"""
    shards: str = may_change()
    """shard set that `kitsam embed` wrote: a folder, or an address that webdataset opens (https:, s3:, gs:,
    pipe:...)"""
    out: Path = place("new folder", may_change=True)
    """folder of the run"""
    fold: int | None = number(None, least=0)
    """which fold of a set that was embedded with `--folds`; the first is 0"""
    steps: int = count(5000, may_change=True)
    """optimizer steps; with more of them a run, finished or not, goes on with another half cosine over those added"""
    batch_size: int = count(64)
    """slices a step, over all processes"""
    accumulate: int = count(1, may_change=True)
    """parts that a process computes its share of a batch in, for GPUs with little memory; the result does not
    depend on it"""
    quotas: Literal["natural"] | dict[str, float] = number("natural", least=0)
    """share of each stratum in a batch, such as {kidney: 1, tumor: 2}; natural: as in the data"""
    shift: float = share(0.05)
    """each slice of a batch is moved by up to this share of its side, in whole cells of the embedding, its kidneys
    staying on it"""
    init: Literal["auto", "checkpoint", "random"] = "auto"
    """the decoder's first weights: SAM's own, or drawn anew; auto: SAM's own where the encoder has a checkpoint"""
    start_from: Path | None = place("folder", None)
    """run whose weights the decoder starts from, instead of `init`: of any target, on any set of the same encoder and
    input; a lesion decoder that begins as the ROI decoder is worth it where steps are few"""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    cache: CacheConfig = may_change(factory=CacheConfig)
    workers: int = number(2, least=0, may_change=True)
    """threads of each process that make batches; the batches do not depend on it"""
    checkpoint_every: int = count(250, may_change=True)
    """steps between checkpoints"""
    keep_checkpoints: int = count(2, may_change=True)
    """last checkpoints kept, besides the best decoder"""
    log_every: int = count(10, may_change=True)
    """steps between lines of metrics.jsonl"""
    wandb: bool = may_change(False)
    """send losses, settings and validation pictures to Weights & Biases too (`wandb login` before, or
    WANDB_MODE=offline)"""
    step_timeout: float = number(60.0, above=0, most=1e9, may_change=True)
    """seconds after which processes that all stand still end; one that waits for data or the disk keeps the others
    waiting for up to half an hour, as starting and the first validation do"""
    precision: Precision = "auto"
    """auto: bf16 on a GPU that has it; on a CPU that has instructions for it and ten minutes of work, bf16 if it is
    measured to be 1.2 times as fast; else fp32. A run goes on in the format that it was begun with. Where bf16 is
    faster by about that, two new runs may differ: name a format if they must have the same numbers"""
    compile: Compile = may_change("auto")
    """the decoder's step, by torch.compile; auto: on a GPU with at least ten minutes of work, if a measurement says
    that it pays; never on a CPU"""
    device: Device = may_change("auto")
    """auto: a GPU if there is one"""
    seed: int = number(0, least=0)
    """of the samples' order, the boxes and new weights"""

    def check(self) -> None:
        if self.wandb and find_spec("wandb") is None:
            raise OptionError(f"{self.option('wandb')}: the package wandb is not installed")
        if self.quotas != "natural":
            self._check_quotas(self.quotas)

    def _check_quotas(self, quotas: dict[str, float]) -> None:
        known = strata_for(self.target)
        for stratum in quotas:
            if stratum not in known:
                raise OptionError(f"{self.option('quotas')}: unknown stratum {stratum} (known: {', '.join(known)})")
        if not any(quotas.values()):
            raise OptionError(f"{self.option('quotas')}: no stratum has a share above 0 (known: {', '.join(known)})")

    def check_places(self) -> None:
        super().check_places()
        check_shards(self.shards, self.option("shards"))
        check_run(self.start_from, self.option("start_from"))
