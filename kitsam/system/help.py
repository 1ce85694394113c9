"""The text of `kitsam COMMAND --help`: what the command does, an example, its options in the order of their fields.

Each option stands with its dashes, its text and its default; what kind of value it takes is said by the text and by the
word in capitals or the choices behind its name.
"""

import json
import shutil
from argparse import SUPPRESS, Action, ArgumentParser, HelpFormatter
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from kitsam.system.options import Options, has_no_name

NARROWEST, WIDEST = 60, 110  # columns
INDENT = 30  # columns before an option's text


def help_text(parser: ArgumentParser, kind: type[Options]) -> str:
    """`parser`: made of the dataclass `kind`; what belongs to none of its fields comes last of the plain options."""
    actions = {action.dest: action for action in parser._actions if action.option_strings[:1] != ["--print_config"]}
    plain = [one for one in fields(kind) if not is_dataclass(one.type)]
    given = [actions.pop(one.name) for one in plain if has_no_name(one)]
    required = [actions.pop(one.name) for one in plain if one.name in actions and _is_required(one)]
    optional = [actions.pop(one.name) for one in plain if one.name in actions]
    sections = {one: _section_actions(actions, one) for one in fields(kind) if is_dataclass(one.type)}
    rest = [action for action in actions.values() if "." not in action.dest and action.dest not in _names(sections)]
    formatter = _Formatter(parser.prog)
    formatter.add_usage(_usage(parser.prog, given, required), [], [])
    formatter.add_text(kind.__doc__)
    if kind.example:
        formatter.add_example(kind.example)
    _add_section(formatter, "given without a name", given)
    _add_section(formatter, "must be given", required)
    _add_section(formatter, "options", optional + rest)
    for one, some in sections.items():
        _add_section(formatter, (one.type.__doc__ or one.name).strip().rstrip("."), some)
    return formatter.format_help()


def _is_required(one: Field) -> bool:
    return one.default is MISSING and one.default_factory is MISSING


def _section_actions(actions: dict[str, Action], section: Field) -> list[Action]:
    return [actions[f"{section.name}.{one.name}"] for one in fields(section.type)]


def _names(sections: Iterable[Field]) -> list[str]:
    return [one.name for one in sections]


def _add_section(formatter: HelpFormatter, title: str, actions: Sequence[Action]) -> None:
    if actions:
        formatter.start_section(title)
        formatter.add_arguments(actions)
        formatter.end_section()


def _usage(program: str, given: Sequence[Action], required: Sequence[Action]) -> str:
    """What must be given; all else is below."""
    formatter = _Formatter(program)
    words = [word for action in given for word in _usage_words(action)]
    return " ".join([program, *words, *map(formatter.invocation, required), "[options]"])


def _usage_words(action: Action) -> list[str]:
    name = _metavar(action)
    return [name, f"[{name} ...]"] if action.nargs == "+" else [f"[{name}]" if action.nargs == "?" else name]


def _metavar(action: Action) -> str:
    """What stands for a value."""
    kind = getattr(action, "_typehint", None)
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    # int | None too; of a switch with a section, which takes a value, both of them.
    plain = {int: "N", float: "X", bool: "true|false"}
    found = [plain[part] for part in (kind, *get_args(kind)) if part in plain]
    if found and get_origin(kind) in (None, Union, UnionType):
        return found[0]
    return action.dest.rpartition(".")[2].upper()


def _is_switch(action: Action) -> bool:
    return action.nargs == 0 or (action.nargs == "?" and getattr(action, "_typehint", None) is bool)


def dashed(option: str) -> str:
    return option.replace("_", "-")


class _Formatter(HelpFormatter):
    def __init__(self, program: str) -> None:
        width = max(NARROWEST, min(WIDEST, shutil.get_terminal_size().columns - 2))
        super().__init__(program, max_help_position=INDENT, width=width)

    def add_example(self, line: str) -> None:
        self._add_item(lambda: f"  {line}\n\n", [])

    def invocation(self, action: Action) -> str:
        if not action.option_strings:
            return _metavar(action)
        name = ", ".join(dashed(name) for name in action.option_strings if not name.endswith("+"))
        return name if _is_switch(action) else f"{name} {_metavar(action)}"

    def _format_action_invocation(self, action: Action) -> str:
        return self.invocation(action)

    def _expand_help(self, action: Action) -> str:
        text, default = action.help or "", _default_text(action.default)
        if not action.option_strings or _is_switch(action) or not default:
            return text
        return f"{text} (default: {default})"


def _default_text(value: Any) -> str:
    """Of an option that has one: as it is written in a YAML file."""
    if value is None or value == SUPPRESS:
        return ""
    if isinstance(value, (str, Path)):
        return str(value)
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, default=str)
