"""The card of a bundle: what it learned from, how well it did on which cases, licenses, and what it is for.

It stands in the header of the bundle's file, so that it goes wherever the weights go, and is read without them. Scans,
split, shard set and the encoder's license are what the runs themselves know; Dice is what `kitsam evaluate` measured of
these very decoders (`evaluations.py`); the name of a data set and its license no file knows, they are told. A bundle of
an older version has no card, and shows what its header says all the same. Imports no torch.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kitsam.ct.labels import Target
from kitsam.decoding.config import PromptConfig
from kitsam.decoding.records import ShardSetRecord
from kitsam.inference.config import CascadeConfig
from kitsam.sam.checkpoints import MEDSAM, origin_of
from kitsam.system.errors import KitsamError
from kitsam.system.options import as_list
from kitsam.system.records import as_record
from kitsam.system.tensor_headers import read_header

# One run a target; several; with the checkpoint's own decoder; with networks for detail.
ONE_RUN, SEVERAL_RUNS, SECOND_LOOK, WITH_DETAIL = FORMATS = 1, 2, 3, 4

RESEARCH_ONLY = "For research only. Not a medical device; no label map may guide treatment."
ONLY_RESEARCH = "for research only, not a medical device"  # the same at the end of a line
# The figures of an evaluation that are told first, and the group of classes each rests on.
FIGURES = {
    "kidney_and_masses_Dice": ("kidneys with masses", "kidney_and_mass"),
    "masses_Dice": ("masses", "mass"),
    "tumor_Dice": ("tumors", "tumor"),
}

Interval = tuple[float, float]


@dataclass(frozen=True)
class Evaluation:
    """How well decoders of the bundle did, as `kitsam evaluate` measured it."""

    data: str  # name of the folder of the cases
    cases: int
    phantoms: int  # of these cases `kitsam phantom` drew or rendered
    fingerprint: str  # of the shard set
    fold: int | None
    decoders: dict[Target, int]  # how many of the bundle's answered
    flips: bool
    kitsam: str  # version that measured
    averages: dict[str, float]  # over the cases
    intervals_95: dict[str, Interval | None]  # of the averages
    absent_groups: list[str]  # of which no case has a voxel: their figures say nothing


@dataclass(frozen=True)
class Card:
    """What a bundle's header says for people."""

    date: str  # on which it was bundled, UTC
    data: str | None = None  # name of the data set
    data_license: str | None = None
    evaluations: list[Evaluation] = field(default_factory=list)
    use: str = RESEARCH_ONLY


@dataclass(frozen=True)
class Header:
    """The header's `kitsam` entry."""

    format: int
    kitsam: str  # version that wrote the bundle
    encoder: dict[str, Any]
    input: dict[str, Any]
    prompts: dict[Target, PromptConfig]
    cascade: CascadeConfig = field(default_factory=CascadeConfig)
    # What each decoder was trained on; a list: of each of several.
    shard_sets: dict[Target, ShardSetRecord | list[ShardSetRecord]] = field(default_factory=dict)
    weights: dict[str, str] = field(default_factory=dict)  # source and license of the encoder's, where they are known
    card: Card | None = None

    def sets(self, target: Target) -> list[ShardSetRecord]:
        """What each of the target's decoders was trained on."""
        return as_list(self.shard_sets.get(target))

    def count(self, target: Target) -> int:
        """How many runs the target's decoders come from."""
        return len(self.sets(target)) or 1

    @property
    def training_scans(self) -> set[str]:
        """Of all decoders, by their SHA-256."""
        return {scan for target in self.shard_sets for one in self.sets(target) for scan in one.train.values()}

    @property
    def fingerprints(self) -> set[str]:
        """Of the shard sets that the decoders were trained on."""
        return {one.fingerprint for target in self.shard_sets for one in self.sets(target) if one.fingerprint}


def as_header(content: dict[str, Any] | None, path: Path) -> Header:
    """Raises `KitsamError` naming the file where its header is not that of a bundle."""
    if content is None or content.get("format") not in FORMATS:
        raise KitsamError(f"{path}: not a bundle of format {ONE_RUN} to {WITH_DETAIL}")
    return as_record(content, Header, path)


def read_bundle_header(path: Path) -> Header:
    """Without the weights, so that what damage did to these stays unseen."""
    return as_header(read_header(path), path)


def line_of(header: Header) -> str:
    """What matters most of a model before its answers are looked at."""
    return f"{_training(header)}; {_measured(header)}; {ONLY_RESEARCH}"


def line_of_checkpoint(name: str, sha256: str) -> str:
    """The same of an encoder's checkpoint whose own decoder is asked with boxes."""
    origin = origin_of(name, sha256)
    weights = f"weights under {origin.license}" if origin else "nobody knows the license of these weights"
    seen = "; its training data may hold KiTS cases" if name in MEDSAM else ""
    return f"outlines what a box surrounds, not trained by kitsam{seen}; {weights}; {ONLY_RESEARCH}"


def _training(header: Header) -> str:
    scans, card = len(header.training_scans), header.card
    what = f"trained on {scans or 'an unknown number of'} case{'s' * (scans != 1)}"
    if card and card.data:
        what += f" of {card.data}"
    if learned_from_phantoms(header):
        what += ", made by `kitsam phantom`"
    return what if header.encoder.get("seed") is None else f"{what}, on a random encoder"


def learned_from_phantoms(header: Header) -> bool:
    """Where all validation cases of its own shard set are drawn, those for training are."""
    own = [one for one in _evaluations(header) if one.fingerprint in header.fingerprints]
    return any(one.cases == one.phantoms for one in own)


def _evaluations(header: Header) -> list[Evaluation]:
    return header.card.evaluations if header.card else []


def _measured(header: Header) -> str:
    match _evaluations(header):
        case []:
            return "how well it does was not measured"
        case [one]:
            seen = ", which MedSAM may have seen" if header.encoder["name"] in MEDSAM and not one.phantoms else ""
            cases = f"{one.cases} other case{'s' * (one.cases != 1)}{seen}"
            return f"Dice on {cases}: {', '.join(figures_of(one).values())}"
        case several:
            ranges = ", ".join(f"{FIGURES[name][0]} {text}" for name, text in _ranges(several).items())
            return f"Dice in {len(several)} evaluations of some of its decoders each: {ranges}"


def figures_of(evaluation: Evaluation) -> dict[str, str]:
    """FIGURES in words, with their intervals, but for those that say nothing."""
    return {name: f"{FIGURES[name][0]} {_with_interval(evaluation, name)}" for name in _meaningful(evaluation)}


def _meaningful(evaluation: Evaluation) -> Iterator[str]:
    for name, (_, group) in FIGURES.items():
        if group not in evaluation.absent_groups and name in evaluation.averages:
            yield name


def _with_interval(evaluation: Evaluation, name: str) -> str:
    interval = evaluation.intervals_95.get(name)
    bounds = f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
    return f"{evaluation.averages[name]:.3f}{bounds}"


def _ranges(evaluations: list[Evaluation]) -> dict[str, str]:
    """The least and the largest of each of FIGURES."""
    values = {name: [one.averages[name] for one in evaluations if name in _meaningful(one)] for name in FIGURES}
    return {name: f"{min(some):.3f} to {max(some):.3f}" for name, some in values.items() if some}
