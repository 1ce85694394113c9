"""Options of `kitsam train`. A field made by `may_change`, or with that argument, may differ when a run goes on.

What is not given is the recommended recipe, that of `configs/roi.yaml`, `tumor.yaml` and `cyst.yaml`.
"""

from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

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

Select = Literal["dice", "dice_pooled"]


class Recipe(NamedTuple):
    """What is recommended for one target and not for another."""

    quotas: dict[str, float]
    shift: float
    patience: int
    select: Select


RECIPES: dict[Target, Recipe] = {
    "roi": Recipe({"background": 2.0, "kidney": 3.0, "tumor": 2.0, "cyst": 1.0, "tumor_cyst": 1.0}, 0.05, 0, "dice"),
    # Slices without a lesion teach a lesion decoder to answer "nothing".
    "tumor": Recipe({"kidney": 2.0, "tumor": 3.0, "cyst": 1.0, "tumor_cyst": 1.0}, 0.2, 8, "dice"),
    # Half of the cases hold no cyst: the mean of the cases' Dice would reward a decoder that never sees one.
    "cyst": Recipe({"kidney": 2.0, "tumor": 1.0, "cyst": 3.0, "tumor_cyst": 1.0}, 0.2, 8, "dice_pooled"),
}


@dataclass
class OptimizerConfig(Options, section="optimizer"):
    """AdamW with a linear warm-up, then a cosine."""

    peak_rate: float = amount(2e-4)
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

    every: int = count(500)
    """steps between validations"""
    patience: int | None = number(None, least=0)
    """stop after so many validations without a better one; 0: never; if not given 8, for the ROI decoder 0"""
    select: Select | None = None
    """dice or dice_pooled: the best decoder has the highest mean of the cases' Dice, or Dice of all cases' voxels
    together; a case without what is to be found counts 1 if nothing is found in it, a decoder that finds nothing
    anywhere counts 0; if not given dice, for the cyst decoder dice_pooled"""


@dataclass
class TrainConfig(Options, example="kitsam train --config configs/roi.yaml --shards shards/kits23 --out runs/roi"):
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
    steps: int = count(10000, may_change=True)
    """optimizer steps; with more of them a run, finished or not, goes on with another half cosine over those added"""
    batch_size: int = count(64)
    """slices a step, over all processes"""
    accumulate: int = count(1, may_change=True)
    """parts that a process computes its share of a batch in, for GPUs with little memory; the result does not
    depend on it"""
    quotas: Literal["natural"] | dict[str, float] | None = number(None, least=0)
    """share of each stratum in a batch, such as {kidney: 1, tumor: 2}; natural: as in the data; if not given those of
    `kitsam config roi`, tumor or cyst"""
    shift: float | None = share(None)
    """each slice of a batch is moved by up to this share of its side, in whole cells of the embedding, its kidneys
    staying on it; if not given 0.2, for the ROI decoder 0.05"""
    init: Literal["auto", "checkpoint", "random"] = "auto"
    """the decoder's first weights: SAM's own, or drawn anew; auto: SAM's own where the encoder has a checkpoint"""
    start_from: Path | None = place("folder", None)
    """run whose weights the decoder starts from, instead of `--init`: of any target, on any set of the same encoder and
    input; a lesion decoder that begins as the ROI decoder is worth it where steps are few"""
    detail: bool = False
    """train networks beside a lesion decoder that look at the CT itself, voxel by voxel, and answer with it wherever
    the run is used; the set must keep the CT (`kitsam embed --keep-ct`). Validation is of the decoder alone"""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    cache: CacheConfig = may_change(factory=CacheConfig)
    workers: int = number(2, least=0, may_change=True)
    """threads of each process that make batches; the batches do not depend on it"""
    checkpoint_every: int = count(500, may_change=True)
    """steps between checkpoints"""
    keep_checkpoints: int = count(2, may_change=True)
    """last checkpoints kept, besides the best decoder"""
    log_every: int = count(10, may_change=True)
    """steps between lines of metrics.jsonl"""
    wandb: bool = may_change(False)
    """send losses, settings and validation pictures to Weights & Biases too (`wandb login` before, or
    WANDB_MODE=offline)"""
    mlflow: bool = may_change(False)
    """send them to MLflow too, where MLFLOW_TRACKING_URI says, else to its own place in the current folder"""
    dry_run: bool = may_change(False)
    """print steps, bytes to read, memory and time to expect, and write nothing"""
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
    """auto, cpu, mps (Apple), cuda, or one GPU such as cuda:1; auto: a GPU if there is one"""
    seed: int = number(0, least=0)
    """of the samples' order, the boxes and new weights"""

    def __post_init__(self) -> None:
        """What was not given is the target's, so that a run's config.yaml has it."""
        recipe, validation = RECIPES[self.target], self.validation
        self.quotas = dict(recipe.quotas) if self.quotas is None else self.quotas
        self.shift = recipe.shift if self.shift is None else self.shift
        self.validation = replace(
            validation,
            patience=recipe.patience if validation.patience is None else validation.patience,
            select=validation.select or recipe.select,
        )
        super().__post_init__()

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
        if self.mlflow and find_spec("mlflow") is None:
            raise OptionError(f"{self.option('mlflow')}: the package mlflow is not installed: pip install mlflow")
