"""The units of a shard set: what is embedded together, and the shards that it goes to.

Training cases are dealt by seed into groups, validation cases stand alone, the same whatever the number of processes.
A group's samples are scattered over its shards, each of one stratum.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from kitsam.ct.strata import STRATA
from kitsam.embedding.config import EmbedConfig
from kitsam.embedding.plan import Plan, SamplePlan
from kitsam.system.seals import seal_of
from kitsam.system.seeds import generator


class Member(NamedTuple):
    """A sample in its unit. A case without samples is one member too: its scan is read like any other."""

    case: str
    sample: SamplePlan | None
    shard: str


@dataclass(frozen=True)
class Unit:
    """Cases whose slices are embedded together, and the shards they go to."""

    name: str
    cases: tuple[str, ...]
    shards: dict[str, tuple[tuple[str, SamplePlan], ...]]  # shard name -> (case, sample)

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """In the order in which they are embedded and stand in their shards: by case, slice and view."""
        samples: dict[str, list[tuple[SamplePlan, str]]] = {name: [] for name in self.cases}
        for shard, places in self.shards.items():
            for case, sample in places:
                samples[case].append((sample, shard))
        return tuple(
            Member(case, sample, shard) for case, found in samples.items() for sample, shard in sorted(found) or NOTHING
        )

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The first member of each case."""
        return tuple(i for i, member in enumerate(self.members) if not i or member.case != self.members[i - 1].case)

    @property
    def samples(self) -> int:
        return sum(len(shard) for shard in self.shards.values())


NOTHING = ((None, ""),)  # sample and shard of a case that has none


def count_samples(units: Iterable[Unit]) -> int:
    return sum(unit.samples for unit in units)


def unit_seal(unit: Unit, plan: Plan) -> str:
    """SHA-256 of all that the plan says of a unit: settings, its cases' labels, its samples and their shards."""
    labels = {name: plan.cases[name].segmentation for name in unit.cases}
    return seal_of({"settings": plan.settings, "labels": labels, "shards": unit.shards})


def units_of(plan: Plan, config: EmbedConfig) -> list[Unit]:
    """Groups of training cases, then the validation cases."""
    order = generator(config.seed, "groups").permutation(len(plan.split.train))
    cases = [plan.split.train[index] for index in order]
    groups = [cases[first : first + config.group_cases] for first in range(0, len(cases), config.group_cases)]
    units = [_group(number, members, plan, config) for number, members in enumerate(groups)]
    for name in plan.split.val:
        if name in plan.cases:
            samples = tuple((name, sample) for sample in plan.cases[name].val)
            units.append(Unit(f"val-{name}", (name,), {f"val/{name}.tar": samples}))
    return units


def _group(number: int, cases: Sequence[str], plan: Plan, config: EmbedConfig) -> Unit:
    usable = tuple(name for name in cases if name in plan.cases)
    samples = [(name, sample) for name in usable for sample in plan.cases[name].train]
    shards = {}
    for stratum in STRATA:
        members = [(name, sample) for name, sample in samples if sample.stratum == stratum]
        count = -(-len(members) // config.shard_samples)
        # Each shard gets slices of many cases; inside a shard they stay in case order, so that a case is read once.
        places = generator(config.seed, "shards", number, stratum).permutation(len(members)) % max(count, 1)
        for shard in range(count):
            samples_here = tuple(member for member, place in zip(members, places) if place == shard)
            shards[f"train/{stratum}-{number:04d}-{shard:02d}.tar"] = samples_here
    return Unit(f"group-{number:04d}", usable, shards)
