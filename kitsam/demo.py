"""`kitsam demo`: the whole flow on drawn cases, with nothing to download, in minutes on two CPU cores.

Every step is the stage that real data would go through, with the options below; each can be repeated by hand with the command
that is printed. The encoder is `tiny`, random and untrained: the numbers show that the pipeline works, not what
SAM can do.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from kitsam.ct.config import InputConfig
from kitsam.ct.labels import TARGETS, Target
from kitsam.embedding.config import EmbedConfig
from kitsam.evaluation.config import EvaluateConfig
from kitsam.phantom.config import PhantomConfig
from kitsam.report.config import ReportConfig
from kitsam.sam.config import EncoderConfig
from kitsam.system.console import say
from kitsam.system.options import Options
from kitsam.training.config import LossConfig, OptimizerConfig, TrainConfig, ValidationConfig

CASES, SIZE, SLICES = 20, 256, 40
# Each cell of the embedding covers 11 x 11 pixels of a slice: with 16 x 16 most tumors are missed.
ENCODER = EncoderConfig(name="tiny", input_size=384)
QUOTAS = {
    "roi": {"background": 1, "kidney": 2, "tumor": 2, "cyst": 1, "tumor_cyst": 1},
    "tumor": {"kidney": 2, "tumor": 3, "tumor_cyst": 1},
    "cyst": {"kidney": 2, "tumor": 1, "cyst": 2, "tumor_cyst": 1},
}


@dataclass
class DemoConfig(Options):
    """The whole flow on generated cases, on any machine, in minutes."""

    out: Path = Path("demo")
    """folder for everything the demo writes"""


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
    stages = _stages(at)
    for number, (title, stage, options) in enumerate(stages, 1):
        say(f"\n{number}/{len(stages)} kitsam {title}")
        if code := int(stage(options)):
            return code
    say(f"\nDone in {(time.monotonic() - began) / 60:.1f} minutes. Open {at.results / 'report.html'}")
    return 0


def _stages(at: Folders) -> list[tuple[str, Callable[..., int], Options]]:
    """What is said of each stage, its function and its options."""
    # Here, so that `kitsam demo --help` need not wait for torch.
    from kitsam.embedding import run as embedding
    from kitsam.evaluation import evaluate
    from kitsam.phantom import cases
    from kitsam.report import page
    from kitsam.training import loop

    return [
        (f"phantom: draw {CASES} abdomens", cases.run, PhantomConfig(at.data, CASES, SIZE, SLICES)),
        ("embed: encode their slices", embedding.run, embed_config(at)),
        *((f"train: the {target} decoder", loop.train, train_config(at, target)) for target in TARGETS),
        ("evaluate: label the validation cases", evaluate.run, evaluate_config(at)),
        ("report: results, curves, overlays", page.run, ReportConfig(at.results)),
    ]


def embed_config(at: Folders) -> EmbedConfig:
    return EmbedConfig(at.data, at.shards, ENCODER, InputConfig(channels="windows"), val_fraction=0.2, batch_size=8)


def train_config(at: Folders, target: Target) -> TrainConfig:
    common = TrainConfig(
        target, at.shards, at.run(target), batch_size=12, quotas=QUOTAS[target], loss=LossConfig(balance=0.25)
    )
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
