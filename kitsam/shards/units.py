"""What is kept of a unit of work, the cases whose slices were embedded together: `units/NAME.json`.

It is written after all shards of the unit and their indexes, so that a unit with one is finished, also where no case
of it could be embedded and there is no shard. Which units a set has is said in its plan.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from kitsam.system.errors import ShardError
from kitsam.system.seals import read_sealed, write_sealed

UNITS_FOLDER = "units"
PLAN = "plan.json"


@dataclass(frozen=True)
class UnitRecord:
    """The content of `units/NAME.json`."""

    plan: str  # SHA-256 of what the plan says of the unit
    scans: dict[str, str]  # case that was embedded -> SHA-256 of its scan
    skipped: dict[str, str]  # case -> why it could not be embedded
    shards: tuple[str, ...]  # names of its shards


@dataclass(frozen=True)
class PlanUnits:
    """What `plan.json` says of the units: the shards of each, were no case left out."""

    units: dict[str, tuple[str, ...]]


def unit_path(shards: Path, name: str) -> Path:
    return shards / UNITS_FOLDER / f"{name}.json"


def write_unit(shards: Path, name: str, record: UnitRecord) -> None:
    write_sealed(unit_path(shards, name), asdict(record))


def read_unit(shards: Path, name: str) -> UnitRecord:
    """Raises `ShardError` naming the file when it is missing or damaged."""
    return read_sealed(unit_path(shards, name), UnitRecord, ShardError)


def read_plan_units(shards: Path) -> PlanUnits:
    """Raises `ShardError` naming the plan when it is missing or damaged."""
    return read_sealed(shards / PLAN, PlanUnits, ShardError)
