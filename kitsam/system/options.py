"""What the options of all rooms share: their choices, their ranges, and which of them a run may change.

A room keeps its options in a `config.py`: a dataclass a command, with a text under each field. `command_line.py` makes
options, YAML keys and `--help` from them. The range of a number stands in its field (`count`, `amount`, `share`,
`number`), what several fields must fulfill together in the dataclass's `check`; both hold for every object, wherever
it is made. What must be there on the disk stands in the field too (`place`), and is looked at when a command begins,
since another command may write it before. Lengths are mm, volumes mL, angles degrees, intensities HU. A `config.py`
imports nothing that takes time, so that a wrong option is refused at once.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar, Literal, get_args

from jsonargparse.typing import restricted_string_type

from kitsam.system.errors import OptionError

_DEVICE = re.compile(r"^(auto|cpu|mps|cuda(:[0-9]+)?)$")
Device = restricted_string_type("Device", _DEVICE.pattern, docstring="What to compute on.")
DEVICES = "auto, cpu, mps, cuda, or a GPU's number such as cuda:1"
Precision = Literal["auto", "fp32", "bf16"]
Compile = Literal["auto", "yes", "no"]

# What an option names: something to read, or something to write, which may be there already.
Place = Literal["folder", "file", "new folder", "new file"]

# Keys of a field's metadata.
LEAST, ABOVE, MOST, BELOW = "least", "above", "most", "below"
MAY_CHANGE, PLACE, POSITIONAL, SPELLING = "may_change", "place", "positional", "spelling"
LEADING = "leading"  # positional, and may be left out


@dataclass
class Options:
    """Base of every dataclass of options.

    `section`: the name it has as part of a command's options; `example`: a line that `kitsam COMMAND --help` shows.
    """

    section: ClassVar[str] = ""
    example: ClassVar[str] = ""

    def __init_subclass__(cls, section: str = "", example: str = "") -> None:
        cls.section, cls.example = section, example

    def __post_init__(self) -> None:
        """Raises `OptionError` naming the option that cannot be used."""
        for one in fields(self):
            value = getattr(self, one.name)
            if value is None and NoneType not in get_args(one.type):
                raise OptionError(f"{self.option(one.name)}: must be given, not null")
            if one.type is Device and not _DEVICE.match(value):
                raise OptionError(f"{self.option(one.name)}: must be {DEVICES}, not {value}")
            check_range(self.option(one.name), value, one)
        self.check()

    def check(self) -> None:
        """Raises `OptionError` where fields do not fit together."""

    def check_places(self) -> None:
        """Raises `OptionError` naming an option whose file or folder is not there. Reads little and imports little."""
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, Options):
                value.check_places()
            elif PLACE in one.metadata and value is not None:
                for path in as_list(value):
                    check_place(self.option(one.name), Path(path), one.metadata[PLACE])

    def option(self, name: str) -> str:
        """How a field is given on the command line."""
        return next(option_of(one, self.section) for one in fields(self) if one.name == name)


def option_of(one: Field, section: str = "") -> str:
    """How a field of a section is given on the command line; in capitals where it is given without a name."""
    if has_no_name(one):
        return one.name.upper()
    name = one.metadata.get(SPELLING, one.name)
    return f"--{section}.{name}" if section else f"--{name}"


def number(
    default: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    may_change: bool = False,
) -> Any:
    """A field for a number, or a tuple or table of numbers, in a range; `may_change`: a run goes on although it did."""
    limits = {LEAST: least, ABOVE: above, MOST: most, BELOW: below}
    metadata = {name: limit for name, limit in limits.items() if limit is not None} | {MAY_CHANGE: may_change}
    return field(default=default, metadata=metadata)


def count(default: int | None, may_change: bool = False) -> Any:
    """A field for a whole number from 1."""
    return number(default, least=1, may_change=may_change)


def amount(default: float | None, may_change: bool = False) -> Any:
    """A field for a number from 0."""
    return number(default, least=0, may_change=may_change)


def share(default: Any) -> Any:
    """A field for a number from 0 to 1."""
    return number(default, least=0, most=1)


def may_change(default: Any = MISSING, factory: Callable[[], Any] | None = None) -> Any:
    """A field of any kind that a run may go on with although it changed; without a default it is required."""
    return field(default=default, default_factory=factory or MISSING, metadata={MAY_CHANGE: True})


def place(kind: Place, default: Any = MISSING, *, positional: bool = False, may_change: bool = False) -> Any:
    """A field for a file or folder to read, or for one to write; without a default it is required."""
    return field(default=default, metadata={PLACE: kind, POSITIONAL: positional, MAY_CHANGE: may_change})


def positional() -> Any:
    """A required field of any kind that is given without a name."""
    return field(metadata={POSITIONAL: True})


def leading(default: Any) -> Any:
    """A field that is given without a name, or left out."""
    return field(default=default, metadata={LEADING: True})


def has_no_name(one: Field) -> bool:
    """Whether a field's value stands on the command line without a name."""
    return bool(one.metadata.get(POSITIONAL) or one.metadata.get(LEADING))


def spelling(name: str, default: Any) -> Any:
    """A field whose option has a name that Python forbids."""
    return field(default=default, metadata={SPELLING: name})


def as_list(value: Any) -> list[Any]:
    """Of an option that takes one value or a list of them; none where it was not given."""
    return [] if value is None else value if isinstance(value, list) else [value]


def fixed_options(config: Options) -> list[str]:
    """Names of the fields that must stay the same when a run goes on."""
    return [one.name for one in fields(config) if not one.metadata.get(MAY_CHANGE)]


def check_range(option: str, value: Any, one: Field) -> None:
    """Raises `OptionError` where a number of `value` lies outside the field's range or is not finite."""
    if not (limits := _limits(one)):
        return
    for part in _numbers(value):
        inside = (
            part >= limits.get(LEAST, -math.inf),
            part > limits.get(ABOVE, -math.inf),
            part <= limits.get(MOST, math.inf),
            part < limits.get(BELOW, math.inf),
        )
        if not math.isfinite(part) or not all(inside):
            raise OptionError(f"{option}: must be {_range_text(limits)}, not {part}")


def limits_text(one: Field) -> str:
    """The range of a field for a number, in words; empty where it has none."""
    return _range_text(limits) if (limits := _limits(one)) else ""


def _limits(one: Field) -> dict[str, float]:
    return {name: limit for name, limit in one.metadata.items() if name in (LEAST, ABOVE, MOST, BELOW)}


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    for part in value if isinstance(value, (tuple, list)) else [value]:
        if isinstance(part, (int, float)):
            yield part


def _range_text(limits: dict[str, float]) -> str:
    if LEAST in limits and MOST in limits:
        return f"from {limits[LEAST]:g} to {limits[MOST]:g}"
    words = {LEAST: "at least", ABOVE: "above", MOST: "at most", BELOW: "below"}
    return " and ".join(f"{words[name]} {limit:g}" for name, limit in limits.items())


def check_place(option: str, path: Path, kind: Place) -> None:
    """Raises `OptionError` where a file or folder to read is not there, or one to write could never be."""
    try:
        if kind == "folder" and not path.is_dir():
            raise OptionError(f"{option}: {'not a' if path.exists() else 'no such'} folder: {path}")
        if kind == "file" and not path.is_file():
            raise OptionError(f"{option}: {'not a' if path.exists() else 'no such'} file: {path}")
        if kind == "new file" and path.is_dir():
            raise OptionError(f"{option}: a folder, not a file: {path}")
        if kind in ("new folder", "new file"):
            folder = path.absolute() if kind == "new folder" else path.absolute().parent
            existing = next(place for place in (folder, *folder.parents) if place.exists())
            if not existing.is_dir():
                raise OptionError(f"{option}: not a folder: {existing}")
    except OSError as error:
        raise OptionError(f"{option}: {path}: {error.strerror}") from error


def as_plain(options: Options) -> dict[str, Any]:
    """Options as YAML and JSON write them: paths as text, tuples as lists."""
    return json.loads(json.dumps(asdict(options), default=str))
