"""What the options of all rooms share: their choices, their ranges, and which of them a run may change.

A room keeps its options in a `config.py`: a dataclass a command, with a text under each field. jsonargparse makes the
command line, the YAML keys and `--help` from them. The range of a number stands in its field (`count`, `amount`,
`share`, `number`), what several fields must fulfill together in the dataclass's `check`; both hold for every object,
wherever it is made. Lengths are mm, volumes mL, angles degrees, intensities HU. A `config.py` imports nothing that
takes time, so that a wrong option is refused at once.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal

from kitsam.system.errors import OptionError

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]
Compile = Literal["auto", "yes", "no"]

LEAST, ABOVE, MOST, MAY_CHANGE = "least", "above", "most", "may_change"  # keys of a field's metadata


@dataclass
class Options:
    """Base of every dataclass of options. `section`: the name it has as part of a command's options."""

    section: ClassVar[str] = ""

    def __init_subclass__(cls, section: str = "") -> None:
        cls.section = section

    def __post_init__(self) -> None:
        """Raises `OptionError` naming the option that cannot be used."""
        for one in fields(self):
            check_range(self.option(one.name), getattr(self, one.name), one)
        self.check()

    def check(self) -> None:
        """Raises `OptionError` where fields do not fit together."""

    def option(self, name: str) -> str:
        """How a field is given on the command line."""
        return f"--{self.section}.{name}" if self.section else f"--{name}"


def number(
    default: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    may_change: bool = False,
) -> Any:
    """A field for a number, or a tuple or table of numbers, in a range; `may_change`: a run goes on although it did."""
    limits = {LEAST: least, ABOVE: above, MOST: most}
    metadata = {name: limit for name, limit in limits.items() if limit is not None} | {MAY_CHANGE: may_change}
    return field(default=default, metadata=metadata)


def count(default: int | None, may_change: bool = False) -> Any:
    """A field for a whole number from 1."""
    return number(default, least=1, may_change=may_change)


def amount(default: float, may_change: bool = False) -> Any:
    """A field for a number from 0."""
    return number(default, least=0, may_change=may_change)


def share(default: float) -> Any:
    """A field for a number from 0 to 1."""
    return number(default, least=0, most=1)


def may_change(default: Any = MISSING, factory: Callable[[], Any] | None = None) -> Any:
    """A field of any kind that a run may go on with although it changed; without a default it is required."""
    return field(default=default, default_factory=factory or MISSING, metadata={MAY_CHANGE: True})


def fixed_options(config: Options) -> list[str]:
    """Names of the fields that must stay the same when a run goes on."""
    return [one.name for one in fields(config) if not one.metadata.get(MAY_CHANGE)]


def check_range(option: str, value: Any, one: Field) -> None:
    """Raises `OptionError` where a number of `value` lies outside the field's range or is not finite."""
    limits = {name: limit for name, limit in one.metadata.items() if name != MAY_CHANGE}
    if not limits:
        return
    for part in _numbers(value):
        inside = {
            LEAST: part >= limits.get(LEAST, -math.inf),
            ABOVE: part > limits.get(ABOVE, -math.inf),
            MOST: part <= limits.get(MOST, math.inf),
        }
        if not math.isfinite(part) or not all(inside.values()):
            raise OptionError(f"{option}: must be {_range_text(limits)}, not {part}")


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    for part in value if isinstance(value, (tuple, list)) else [value]:
        if isinstance(part, (int, float)):
            yield part


def _range_text(limits: dict[str, float]) -> str:
    if LEAST in limits and MOST in limits:
        return f"from {limits[LEAST]:g} to {limits[MOST]:g}"
    words = {LEAST: "at least", ABOVE: "above", MOST: "at most"}
    return " and ".join(f"{words[name]} {limit:g}" for name, limit in limits.items())


def as_plain(options: Options) -> dict[str, Any]:
    """Options as YAML and JSON write them: paths as text, tuples as lists."""
    return json.loads(json.dumps(asdict(options), default=str))
