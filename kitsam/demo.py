"""`kitsam demo`: the whole flow on drawn cases, with nothing to download, in minutes on two CPU cores.

Every step is the stage that real data would go through, with the options below; each can be repeated by hand with the command
that is printed. The encoder is `tiny`, random and untrained: the numbers show that the pipeline works, not what
SAM can do.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kitsam import embedding
from kitsam.config import (
    DemoConfig,
    EmbedConfig,
    EncoderConfig,
    EvaluateConfig,
    InputConfig,
    LossConfig,
    OptimizerConfig,
    PhantomConfig,
    ReportConfig,
    Target,
    TrainConfig,
    ValidationConfig,
    ViewsConfig,
)
from kitsam.console import say
from kitsam.evaluation import evaluator
from kitsam.kits import phantom
from kitsam.report import page
from kitsam.training import loop

CASES, SIZE, SLICES = 24, 256, 40
ENCODER = EncoderConfig(name="tiny", input_size=256)
ROI_SHIFT, LESION_SHIFT = 0.05, 0.2  # shares of a slice's side
TRAINING = {
    "roi": (420, ROI_SHIFT, {"background": 1, "kidney": 2, "tumor": 2, "cyst": 1, "tumor_cyst": 1}),
    "tumor": (180, LESION_SHIFT, {"kidney": 2, "tumor": 3, "tumor_cyst": 1}),
    "cyst": (100, LESION_SHIFT, {"kidney": 2, "tumor": 1, "cyst": 2, "tumor_cyst": 1}),
}


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


def run(config: DemoConfig) -> int:
    began = time.monotonic()
    at = Folders(config.out)
    steps: list[tuple[str, Callable, object]] = [
        (f"phantom: draw {CASES} abdomens", phantom.run, PhantomConfig(at.data, CASES, SIZE, SLICES)),
        ("embed: encode their slices", embedding.run, embed_config(at)),
        *((f"train: the {target} decoder", loop.train, train_config(at, target)) for target in TRAINING),
        ("evaluate: label the validation cases", evaluator.run, evaluate_config(at)),
        ("report: results, curves, overlays", page.run, ReportConfig(at.results)),
    ]
    for number, (title, stage, options) in enumerate(steps, 1):
        say(f"\n{number}/{len(steps)} kitsam {title}")
        if code := int(stage(options)):
            return code
    say(f"\nDone in {(time.monotonic() - began) / 60:.1f} minutes. Open {at.results / page.FILE_NAME}")
    return 0


def embed_config(at: Folders) -> EmbedConfig:
    return EmbedConfig(
        at.data, at.shards, ENCODER, InputConfig(channels="windows"), ViewsConfig(count=1), val_fraction=0.2, batch_size=8
    )


def train_config(at: Folders, target: Target) -> TrainConfig:
    steps, shift, quotas = TRAINING[target]
    return TrainConfig(
        target=target,
        shards=at.shards,
        out=at.run(target),
        steps=steps,
        batch_size=12,
        quotas=quotas,
        shift=shift,
        start_from=None if target == "roi" else at.run("roi"),
        optimizer=OptimizerConfig(peak_rate=1e-3, warmup_steps=20),
        loss=LossConfig(balance=0.25),
        validation=ValidationConfig(every=60, select="dice_pooled" if target == "cyst" else "dice"),
        checkpoint_every=60,
    )


def evaluate_config(at: Folders) -> EvaluateConfig:
    return EvaluateConfig(at.shards, at.data, at.run("roi"), at.results, at.run("tumor"), at.run("cyst"))
