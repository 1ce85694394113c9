"""`kitsam demo`: the whole flow on drawn cases, with nothing to download, in minutes on two CPU cores.

Every step is the stage that real data would go through, with the options below; each can be repeated by hand with the
command that is printed. The encoder is `tiny`, random and untrained, or, once `kitsam weights lite_medsam` has fetched
it, a pretrained one: on drawn cases the numbers show that the pipeline works, not what either can do on CT.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from kitsam.ct.config import InputConfig
from kitsam.ct.labels import TARGETS, Target
from kitsam.embedding.config import EmbedConfig
from kitsam.evaluation.config import EvaluateConfig
from kitsam.phantom.config import PhantomConfig
from kitsam.report.config import ReportConfig
from kitsam.sam.checkpoints import check_cached
from kitsam.sam.config import EncoderConfig
from kitsam.system.console import say
from kitsam.system.options import Options, place
from kitsam.training.config import LossConfig, OptimizerConfig, TrainConfig, ValidationConfig

DemoEncoder = Literal["tiny", "lite_medsam"]
QUOTAS = {
    "roi": {"background": 1, "kidney": 2, "tumor": 2, "cyst": 1, "tumor_cyst": 1},
    "tumor": {"kidney": 2, "tumor": 3, "tumor_cyst": 1},
    "cyst": {"kidney": 2, "tumor": 1, "cyst": 2, "tumor_cyst": 1},
}


@dataclass
class DemoConfig(Options):
    """The whole flow on generated cases, on any machine, in minutes."""

    out: Path = place("new folder", Path("demo"))
    """folder for everything the demo writes"""
    encoder: DemoEncoder = "tiny"
    """tiny: random, nothing to download; lite_medsam: pretrained (`kitsam weights lite_medsam` before), takes longer"""


@dataclass(frozen=True)
class Sizes:
    """How much is drawn and trained. These find kidneys and most tumors; the tests draw and train less."""

    encoder: DemoEncoder = "tiny"
    cases: int = 20
    side: int = 256  # pixels of a slice
    slices: int = 40
    # Each cell of the embedding covers 11 x 11 pixels of a slice: with 16 x 16 most tumors are missed.
    input_size: int = 384
    channels: Literal["gray", "windows"] = "windows"
    roi_steps: int = 400
    tumor_steps: int = 80
    cyst_steps: int = 60
    roi_rate: float = 1e-3  # of learning
    lesion_rate: float = 5e-4
    roi_validation: int = 100  # steps between two validations
    lesion_validation: int = 20


FULL = {
    "tiny": Sizes(),
    # A cell covers 4 x 4 pixels, and the decoders begin as those of the checkpoint.
    "lite_medsam": Sizes(
        "lite_medsam", input_size=256, channels="gray", roi_steps=150, tumor_steps=80, cyst_steps=60,
        roi_rate=6e-4, roi_validation=50,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Folders:
    """Where the demo's parts lie."""

    out: Path

    @property
    def data(self) -> Path:
        return self.out / "data"

    @property
    def shards(self) -> Path:
        return self.out / "shards"

    @property
    def results(self) -> Path:
        return self.out / "results"

    def run(self, target: str) -> Path:
        return self.out / target


def run(config: DemoConfig, sizes: Sizes | None = None) -> int:
    """`sizes`: less than the demo's own."""
    if config.encoder != "tiny":
        check_cached(config.encoder)
    began = time.monotonic()
    at = Folders(config.out)
    stages = _stages(at, sizes or FULL[config.encoder])
    for number, (title, stage, options) in enumerate(stages, 1):
        say(f"\n{number}/{len(stages)} kitsam {title}")
        if code := int(stage(options)):
            return code
    say(f"\nDone in {(time.monotonic() - began) / 60:.1f} minutes. Open {at.results / 'report.html'}")
    return 0


def _stages(at: Folders, sizes: Sizes) -> list[tuple[str, Callable[..., int], Options]]:
    """What is said of each stage, its function and its options."""
    # Here, so that `kitsam demo --help` need not wait for torch.
    from kitsam.embedding import run as embedding
    from kitsam.evaluation import evaluate
    from kitsam.phantom import cases
    from kitsam.report import page
    from kitsam.training import loop

    phantom = PhantomConfig(at.data, sizes.cases, sizes.side, sizes.slices)
    return [
        (f"phantom: draw {sizes.cases} abdomens", cases.run, phantom),
        ("embed: encode their slices", embedding.run, embed_config(at, sizes)),
        *((f"train: the {target} decoder", loop.train, train_config(at, target, sizes)) for target in TARGETS),
        ("evaluate: label the validation cases", evaluate.run, evaluate_config(at)),
        ("report: results, curves, overlays", page.run, ReportConfig([at.results])),
    ]


def embed_config(at: Folders, sizes: Sizes) -> EmbedConfig:
    encoder = EncoderConfig(name=sizes.encoder, input_size=sizes.input_size)
    return EmbedConfig(at.data, at.shards, encoder, InputConfig(sizes.channels), val_fraction=0.2, batch_size=8)


def train_config(at: Folders, target: Target, sizes: Sizes) -> TrainConfig:
    common = TrainConfig(
        target, at.shards, at.run(target), batch_size=12, quotas=QUOTAS[target], loss=LossConfig(balance=0.25)
    )
    if target == "roi":
        return replace(
            common,
            steps=sizes.roi_steps,
            shift=0.05,
            optimizer=OptimizerConfig(peak_rate=sizes.roi_rate, warmup_steps=20),
            validation=ValidationConfig(every=sizes.roi_validation),
            checkpoint_every=sizes.roi_validation,
        )
    select = "dice_pooled" if target == "cyst" else "dice"
    return replace(
        common,
        steps=sizes.tumor_steps if target == "tumor" else sizes.cyst_steps,
        shift=0.2,
        # A checkpoint's decoder follows boxes, which one that was trained on the ROI's box has unlearned.
        start_from=at.run("roi") if sizes.encoder == "tiny" else None,
        optimizer=OptimizerConfig(peak_rate=sizes.lesion_rate, warmup_steps=20),
        validation=ValidationConfig(every=sizes.lesion_validation, select=select),
        checkpoint_every=sizes.lesion_validation,
    )


def evaluate_config(at: Folders) -> EvaluateConfig:
    return EvaluateConfig(at.shards, at.data, at.results, at.run("roi"), at.run("tumor"), at.run("cyst"))
