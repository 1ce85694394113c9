"""`kitsam demo`: the whole flow on drawn cases, with nothing to download, in minutes on two CPU cores.

Every step is the stage that real data would go through, with the options below; each can be repeated by hand with the command
that is printed. The encoder is `tiny`, random and untrained: the numbers show that the pipeline works, not what
SAM can do.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
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
)
from kitsam.console import say
from kitsam.evaluation import evaluator
from kitsam.kits import phantom
from kitsam.report import page
from kitsam.training import loop

CASES, SIZE, SLICES = 20, 256, 40
# Each cell of the embedding covers 11 x 11 pixels of a slice: with 16 x 16 most tumors are missed.
ENCODER = EncoderConfig(name="tiny", input_size=384)
QUOTAS = {
    "roi": {"background": 1, "kidney": 2, "tumor": 2, "cyst": 1, "tumor_cyst": 1},
    "tumor": {"kidney": 2, "tumor": 3, "tumor_cyst": 1},
    "cyst": {"kidney": 2, "tumor": 1, "cyst": 2, "tumor_cyst": 1},
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
        *((f"train: the {target} decoder", loop.train, train_config(at, target)) for target in QUOTAS),
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
    return EmbedConfig(at.data, at.shards, ENCODER, InputConfig(channels="windows"), val_fraction=0.2, batch_size=8)


def train_config(at: Folders, target: Target) -> TrainConfig:
    common = TrainConfig(target, at.shards, at.run(target), batch_size=12, quotas=QUOTAS[target], loss=LossConfig(balance=0.25))
    if target == "roi":
        return replace(
            common,
            steps=400,
            shift=0.05,
            optimizer=OptimizerConfig(peak_rate=1e-3, warmup_steps=20),
            validation=ValidationConfig(every=100),
            checkpoint_every=100,
        )
    return replace(
        common,
        steps=80 if target == "tumor" else 60,
        shift=0.2,
        start_from=at.run("roi"),
        optimizer=OptimizerConfig(peak_rate=5e-4, warmup_steps=20),
        validation=ValidationConfig(every=20, select="dice_pooled" if target == "cyst" else "dice"),
        checkpoint_every=20,
    )


def evaluate_config(at: Folders) -> EvaluateConfig:
    return EvaluateConfig(at.shards, at.data, at.run("roi"), at.results, at.run("tumor"), at.run("cyst"))
