"""The `kitsam` command: one line per subcommand.

A command is a dataclass of options and a function that takes it and returns the exit code; both are imported when
the command is asked for, so that `kitsam --help` answers at once. jsonargparse makes the options from the
dataclass. Errors that a user can mend become one line here, and only here.
"""

import sys
from collections.abc import Sequence
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from kitsam import __version__
from kitsam.system.errors import KitsamError, OptionError

USAGE_ERROR = 2


class Command(NamedTuple):
    config: str  # module of kitsam:dataclass
    run: str  # module of kitsam:function
    summary: str
    positional: tuple[str, ...] = ()  # fields given without a dash, in this order
    switches: tuple[str, ...] = ()  # fields that an option sets without a value, or with true or false
    spelled: tuple[tuple[str, str], ...] = ()  # field -> option, where Python forbids the option's name


COMMANDS = {
    "demo": Command("demo:DemoConfig", "demo:run", "the whole flow on generated cases, in minutes, with a report"),
    "phantom": Command(
        "phantom.config:PhantomConfig", "phantom.cases:run", "make a data set of drawn abdomens", ("out",)
    ),
    "fingerprint": Command("ct.config:FingerprintConfig", "ct.fingerprint:run", "measure a data set", ("data",)),
    "weights": Command(
        "sam.config:WeightsConfig",
        "sam.weights:run",
        "fetch and check SAM's checkpoints",
        ("name",),
        spelled=(("source", "--from"),),
    ),
    "embed": Command(
        "embedding.config:EmbedConfig",
        "embedding.run:run",
        "CT slices -> SAM embeddings in shards",
        switches=("dry_run",),
    ),
    "shards info": Command("shards.config:ShardsConfig", "shards.info:run", "what a shard set holds", ("shards",)),
    "shards verify": Command(
        "shards.config:ShardsConfig", "shards.verify:run", "check every shard's bytes", ("shards",)
    ),
    "train": Command(
        "training.config:TrainConfig", "training.loop:run", "train the ROI, tumor or cyst decoder", switches=("wandb",)
    ),
    "evaluate": Command(
        "evaluation.config:EvaluateConfig", "evaluation.evaluate:run", "official metrics on the validation cases"
    ),
    "score": Command(
        "evaluation.config:ScoreConfig",
        "evaluation.score:run",
        "the same metrics for any label maps",
        ("predictions",),
        ("only_present",),
    ),
    "bundle": Command(
        "inference.config:BundleConfig", "inference.bundle:run", "encoder, decoders and settings in one file"
    ),
    "predict": Command("inference.config:PredictConfig", "inference.predict:run", "label CT volumes", ("ct",)),
    "bench encoder": Command(
        "bench.config:BenchEncoderConfig",
        "bench.encoder:run",
        "images a second, against segment-anything",
        switches=("compile",),
    ),
    "bench decoder": Command(
        "bench.config:BenchDecoderConfig",
        "bench.decoder:run",
        "training steps, against segment-anything's parts",
        switches=("compile",),
    ),
    "bench shards": Command(
        "bench.config:BenchShardsConfig", "bench.shards:run", "samples a second, against the stock way"
    ),
    "bench processes": Command(
        "bench.config:BenchProcessesConfig",
        "bench.processes:run",
        "training steps on one and several processes, and what they wait for",
    ),
    "bench evaluator": Command(
        "bench.config:BenchEvaluatorConfig", "bench.evaluator:run", "score, against the official way"
    ),
    "report": Command(
        "report.config:ReportConfig", "report.page:run", "results, curves and overlays as one HTML file", ("folder",)
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    name = _command_name(arguments)
    if name is None:
        return _without_command(arguments)
    try:
        config = _parse(name, arguments[len(name.split()) :])
        return _named(COMMANDS[name].run)(config)
    except KitsamError as error:
        return _fail(name, str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail(name, "interrupted", 130)


def _command_name(arguments: Sequence[str]) -> str | None:
    for length in (2, 1):
        name = " ".join(arguments[:length])
        if name in COMMANDS:
            return name
    return None


def _without_command(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["--version"]:
        print(f"kitsam {__version__}")
        return 0
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if arguments else USAGE_ERROR
    longer = [name for name in COMMANDS if name.startswith(f"{arguments[0]} ")]
    hint = f"use {' or '.join(longer)}" if longer else "`kitsam --help` lists the commands"
    return _fail(None, f"unknown command {' '.join(arguments[:1])}: {hint}", USAGE_ERROR)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: kitsam COMMAND [--config FILE] [--section.option value]",
            "",
            "Teach the Segment Anything Model to find kidneys, tumors and cysts in CT.",
            "",
            *lines,
            "",
            "`kitsam COMMAND --help` explains a command's options. embed, train and evaluate also run on several",
            "processes: accelerate launch -m kitsam COMMAND ..., or torchrun -m kitsam COMMAND ... on CPUs.",
        ]
    )


def _parse(name: str, arguments: list[str]) -> Any:
    """The command's dataclass, filled from `--config`, then from the options."""
    from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    dataclass = _named(COMMANDS[name].config)
    parser = ArgumentParser(
        prog=f"kitsam {name}", description=dataclass.__doc__, exit_on_error=False, allow_abbrev=False
    )
    _add_options(parser, COMMANDS[name], dataclass)
    try:
        parsed = parser.parse_args(arguments)
        settings = parser.instantiate(parsed).as_dict()
    except ArgumentError as error:
        raise OptionError(str(error)) from error
    return dataclass(**{field.name: settings[field.name] for field in fields(dataclass)})


def _named(place: str) -> Any:
    """What `module:name` in the table of commands stands for."""
    module, name = place.split(":")
    return getattr(import_module(f"kitsam.{module}"), name)


def _add_options(parser: Any, command: Command, dataclass: type) -> None:
    """Options from the dataclass, but for what its fields cannot say: positions, switches, spelling."""
    from docstring_parser import parse_from_object

    texts = {text.arg_name: text.description for text in parse_from_object(dataclass).params}
    types = {field.name: field.type for field in fields(dataclass)}
    spelled = dict(command.spelled)
    for field in command.positional:
        # A list takes all that is left of the command line.
        several = {"nargs": "+"} if types[field] == list[Path] else {}
        kind = Path if several else types[field]
        parser.add_argument(field, type=kind, help=texts[field], **several)
    parser.add_argument("--config", action="config", help="YAML file with any of the options")
    for field in command.switches:
        parser.add_argument(
            f"--{field.replace('_', '-')}", type=bool, nargs="?", const=True, default=False, help=texts[field]
        )
    for field, option in spelled.items():
        parser.add_argument(option, dest=field, type=types[field], help=texts[field])
    by_hand = {*command.positional, *command.switches, *spelled}
    parser.add_class_arguments(dataclass, skip=by_hand)


def _fail(name: str | None, message: str, code: int) -> int:
    print(f"kitsam{f' {name}' if name else ''}: error: {' '.join(message.split())}", file=sys.stderr)
    return code
