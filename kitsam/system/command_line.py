"""A command line as a dataclass of options: `--config FILE` first, then what the options themselves say.

jsonargparse makes the options from the dataclass. Here stands what the fields alone cannot say to it (positions,
switches, spelling), and its errors in plain words: one line that begins with the option.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from docstring_parser import parse_from_object
from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_loader, set_parsing_settings

from kitsam.system.errors import OptionError
from kitsam.system.help import dashed, help_text
from kitsam.system.options import DEVICES, SPELLING, Device, Options, has_no_name, option_of
from kitsam.system.plain_yaml import YAML, load_yaml
from kitsam.system.streams import ERR, OUT

T = TypeVar("T", bound=Options)


def read_command_line(command: str, kind: type[T], arguments: Sequence[str]) -> T:
    """Raises `OptionError`; leaves the program after `--help`."""
    parser, options = _Parser(command, kind), _options_of(kind)
    try:
        words = [_usual_spelling(argument, parser) for argument in arguments]
        parsed = parser.parse_args(_gathered(words, kind))
        _check_sections(parsed, parser, kind)
        settings = parser.instantiate(parsed).as_dict()
    except ArgumentError as error:
        raise OptionError(_plain(" ".join(str(error).split()), parser, options)) from error
    except UnicodeDecodeError as error:
        raise OptionError(f"--config: not a text file in UTF-8: {error}") from error
    return kind(**{one.name: settings[one.name] for one in fields(kind)})


class _Parser(ArgumentParser):
    def __init__(self, command: str, kind: type[Options]) -> None:
        set_parsing_settings(docstring_parse_attribute_docstrings=True)
        set_loader(YAML, load_yaml, exceptions=(yaml.YAMLError,))
        super().__init__(prog=command, exit_on_error=False, allow_abbrev=False, parser_mode=YAML)
        self.kind = kind
        _add_options(self, kind)

    def format_help(self) -> str:
        return help_text(self, self.kind)

    def _print_message(self, message: str, file: Any = None) -> None:
        """As argparse calls it for `--help`."""
        (ERR if file is None else OUT).write(message or "")

    def option_names(self) -> list[str]:
        return [name for action in self._actions for name in action.option_strings if name.startswith("--")]


def _add_options(parser: _Parser, kind: type[Options]) -> None:
    texts = {text.arg_name: text.description for text in parse_from_object(kind).params}
    by_hand = set()
    for one in fields(kind):
        text = texts.get(one.name)
        if has_no_name(one):
            # A list takes all that is left of the command line.
            several = {"nargs": "+"} if one.type == list[Path] else {}
            optional = {} if one.default is MISSING else {"nargs": "?", "default": one.default}
            parser.add_argument(one.name, type=Path if several else one.type, help=text, **several, **optional)
        elif one.type is bool:
            option = f"--{one.name.replace('_', '-')}"
            parser.add_argument(option, type=bool, nargs="?", const=True, default=one.default, help=text)
        elif SPELLING in one.metadata:
            parser.add_argument(option_of(one), dest=one.name, type=one.type, default=one.default, help=text)
        else:
            continue
        by_hand.add(one.name)
    parser.add_argument("--config", action="config", help="YAML file with any of the options")
    parser.add_class_arguments(kind, skip=by_hand)


def _usual_spelling(argument: str, parser: _Parser) -> str:
    """`--batch-size 4` means `--batch_size 4`, and the other way round."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    known = {option.replace("-", "_"): option for option in parser.option_names()}
    return f"{known.get(name.replace('-', '_'), name)}{equals}{value}"


def _gathered(words: Sequence[str], kind: type[Options]) -> list[str]:
    """`--roi A B` means `--roi [A, B]` where an option takes one path or several.

    argparse's own way, nargs, would make a list of each `--roi A`, and refuse `roi: A` in a YAML file.
    """
    several = {option_of(one) for one in fields(kind) if list[Path] in get_args(one.type)}
    gathered: list[str] = []
    values: list[str] = []  # of the option that came last
    for word in (*words, "--"):
        if not word.startswith("--") and gathered and gathered[-1] in several:
            values.append(word)
            continue
        gathered += [json.dumps(values)] if len(values) > 1 else values
        gathered.append(word)
        values = []
    return gathered[:-1]


def _check_sections(parsed: Namespace, parser: _Parser, kind: type[Options]) -> None:
    """A section with nothing in it, as after commenting all of it out, means its defaults."""
    for one in fields(kind):
        if is_dataclass(one.type):
            value = parsed.get(one.name)
            if value is None:
                parsed[one.name] = parser.get_defaults()[one.name]
            elif not isinstance(value, Namespace):
                raise OptionError(f"{option_of(one)}: must be a table of options, not {value}")


@dataclass(frozen=True)
class OptionText:
    """What a manual says of an option."""

    name: str  # as on the command line
    values: str
    default: str
    text: str
    field: Any  # of its dataclass


def option_texts(command: str, kind: type[Options]) -> dict[str, list[OptionText]]:
    """A command's options as its parser knows them, by what their section is for; its own first."""
    parser = _Parser(command, kind)
    sections = {kind.__doc__: [_option_text(parser, one, "") for one in fields(kind) if not is_dataclass(one.type)]}
    for section in fields(kind):
        if is_dataclass(section.type):
            texts = [_option_text(parser, one, section.name) for one in fields(section.type)]
            sections[section.type.__doc__] = texts
    return sections


def _option_text(parser: _Parser, one: Any, section: str) -> OptionText:
    key = f"{section}.{one.name}".lstrip(".")
    action = next(action for action in parser._actions if action.dest == key)
    required = action.required if action.option_strings else action.nargs != "?"
    value = parser.get_defaults()[key]
    default = "required" if required else "none" if value is None else "off" if value is False else value
    if isinstance(default, (list, tuple, dict)):
        default = json.dumps(default)
    return OptionText(option_of(one, section), _kind_text(one.type), str(default), " ".join(action.help.split()), one)


@dataclass(frozen=True)
class _Option:
    name: str  # as on the command line
    kind: Any  # type of its field


def _options_of(kind: type[Options], path: str = "") -> dict[str, _Option]:
    """By key of the YAML file, such as `encoder.name`; sections too."""
    options = {}
    for one in fields(kind):
        options[f"{path}{one.name}"] = _Option(option_of(one, path.rstrip(".")), one.type)
        if is_dataclass(one.type):
            options.update(_options_of(one.type, f"{path}{one.name}."))
    return options


def _plain(text: str, parser: _Parser, options: dict[str, _Option]) -> str:
    """What jsonargparse says of a wrong command line, in a line that begins with the option."""
    for pattern, say in (
        (
            r'Parser key "config": File does not exist: (.*)',
            lambda path: f"--config: no such file: {path.strip(QUOTES)}",
        ),
        (r'Parser key "([\w.]+)": (.*)', lambda key, why: _wrong_value(options, key, why)),
        (r"unrecognized arguments: (\S+).*", lambda name: _unknown(name, parser)),
        (r"Option '(.*)' is not accepted", lambda name: _unknown(f"--{name}", parser)),
        (r"Group '(.*)' does not accept option '(.*)'", lambda group, name: _unknown(f"--{group}.{name}", parser)),
        (r"the following arguments are required: (.*)", lambda names: _required(options, names.split(", "))),
        (r"argument (\S+): expected .*", lambda name: f"{name}: needs a value"),
        (r"Unexpected config:.*", lambda: "--config: must hold a table of options"),
        (r"Problems parsing config:? ?(.*)", lambda why: f"--config: cannot be read as YAML: {why}"),
    ):
        if match := re.fullmatch(pattern, text):
            return say(*match.groups())
    return text


QUOTES = "'\""
CLOSE = 0.7  # likeness of two options, 0 to 1, from which one may be meant for the other


def _unknown(name: str, parser: _Parser) -> str:
    name = name.partition("=")[0]
    if not name.startswith("-"):
        return f"{name}: not expected here, every option has a name"
    return f"{name}: no such option{did_you_mean(name, parser.option_names(), CLOSE)}"


def _required(options: dict[str, _Option], keys: Sequence[str]) -> str:
    names = [options[key].name if key in options else key for key in keys]
    return f"{', '.join(names)}: {'is' if len(names) == 1 else 'are'} required"


def _wrong_value(options: dict[str, _Option], key: str, why: str) -> str:
    while key not in options and "." in key:
        key = key.rpartition(".")[0]
    if key not in options:
        return f"--{key}: {why}"
    option = options[key]
    # Where a value fits none of several types, the whole of it comes last.
    value = re.search(r".*(?:Got|Given) value: (.*)", why) or re.search(r"(\S+) does not match", why)
    text = f"{option.name}: must be {_kind_text(option.kind)}"
    return f"{text}, not {value[1].strip(QUOTES)}{did_you_mean(value[1], _words_of(option.kind))}" if value else text


def did_you_mean(word: str, words: Iterable[str], likeness: float = 0.6) -> str:
    """The end of a line that refuses a word; empty where none of `words` is like it."""
    close = get_close_matches(word.strip(QUOTES), list(words), 1, likeness)
    return f": did you mean {close[0]}?" if close else ""


def _words_of(kind: Any) -> Iterator[str]:
    """The words that a type consists of."""
    if get_origin(kind) is Literal:
        yield from get_args(kind)
    elif get_origin(kind) in (Union, UnionType):
        for part in get_args(kind):
            yield from _words_of(part)


_NAME = re.compile(r"(?<![^\s(:,=`'\"])--[a-z][\w.]*")


def in_the_users_spelling(message: str, words: Sequence[str]) -> str:
    """Names of options with dashes, as `--help` shows them.

    A name keeps the underscores, which kitsam itself uses, where the user wrote them, or may have in a YAML file.
    """
    typed = {word.partition("=")[0] for word in words}

    def spelled(match: re.Match[str]) -> str:
        name = match[0]
        underscored = name in typed or ("--config" in typed and dashed(name) not in typed)
        return name if underscored else dashed(name)

    return _NAME.sub(spelled, message)


def _kind_text(kind: Any) -> str:
    """What a value of a type is called."""
    if is_dataclass(kind):
        return "a table of options"
    if get_origin(kind) is Literal:
        return f"{'one of ' if len(get_args(kind)) > 1 else ''}{', '.join(get_args(kind))}"
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_kind_text(part) for part in get_args(kind) if part is not NoneType)
    if get_origin(kind) is dict:
        return f"a table of {_plural(get_args(kind)[1])}"
    return _SINGULAR.get(kind) or _plural(kind)


def _plural(kind: Any) -> str:
    parts = get_args(kind)
    if get_origin(kind) is list or (parts and parts[-1] is Ellipsis):
        return f"a list of {_plural(parts[0])}"
    if get_origin(kind) is tuple:
        return f"{len(parts)} {'lists of ' if get_args(parts[0]) else ''}{_plural(parts[0])}"
    return {int: "whole numbers", float: "numbers", Path: "paths"}.get(kind, "words")


_SINGULAR = {
    Device: DEVICES,
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    Path: "a path",
    str: "a word",
}
