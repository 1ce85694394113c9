"""The `kitsam` command: one line per subcommand.

A command is a dataclass of options and a function that takes it and returns the exit code; both are imported when
the command is asked for, so that `kitsam --help` answers at once. jsonargparse makes the options from the
dataclass. Errors that a user can mend become one line here, and only here.

Exit codes: 0, done; 2, refused before any work: the command line asks for what cannot be, such as a wrong value or a
file that is not there; 1, failed, be it on a damaged file, or done with something left out; 130, broken off by Ctrl-C.
"""

import os
import signal
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NamedTuple

from kitsam import __version__
from kitsam.system.errors import KitsamError
from kitsam.system.streams import ERR, OUT

USAGE_ERROR, INTERRUPTED = 2, 130
GOES_ON = "the same command goes on from what is done"
STARTS_ANEW = "the same command starts anew, nothing is half written"


class Command(NamedTuple):
    config: str  # module of kitsam:dataclass
    run: str  # module of kitsam:function
    summary: str
    resumes: bool = False  # started again, it goes on where it was broken off


COMMANDS = {
    "demo": Command(
        "demo:DemoConfig", "demo:run", "the whole flow on generated cases, in minutes, with a report", True
    ),
    "phantom": Command(
        "phantom.config:PhantomConfig", "phantom.cases:run", "make a data set: drawn, or CTs over label maps"
    ),
    "fingerprint": Command("ct.config:FingerprintConfig", "ct.fingerprint:run", "measure a data set"),
    "weights": Command("sam.config:WeightsConfig", "sam.weights:run", "fetch and check SAM's checkpoints", True),
    "embed": Command(
        "embedding.config:EmbedConfig", "embedding.run:run", "CT slices -> SAM embeddings in shards", True
    ),
    "shards info": Command("shards.config:ShardsConfig", "shards.info:run", "what a shard set holds"),
    "shards verify": Command("shards.config:ShardsConfig", "shards.verify:run", "check every shard's bytes"),
    "train": Command("training.config:TrainConfig", "training.loop:run", "train the ROI, tumor or cyst decoder", True),
    "evaluate": Command(
        "evaluation.config:EvaluateConfig",
        "evaluation.evaluate:run",
        "official metrics on the validation cases",
        True,
    ),
    "score": Command("evaluation.config:ScoreConfig", "evaluation.score:run", "the same metrics for any label maps"),
    "bundle": Command(
        "inference.config:BundleConfig", "inference.bundle:run", "encoder, decoders and settings in one file"
    ),
    "predict": Command("inference.config:PredictConfig", "inference.predict:run", "label CT volumes", True),
    "info": Command("info.config:InfoConfig", "info.show:run", "what a bundle, run, shard set or scan is"),
    "experiment": Command(
        "experiment.config:ExperimentConfig", "experiment.run:run", "variants over folds and seeds, compared", True
    ),
    "bench encoder": Command(
        "bench.config:BenchEncoderConfig", "bench.encoder:run", "images a second, against its own package"
    ),
    "bench decoder": Command(
        "bench.config:BenchDecoderConfig", "bench.decoder:run", "training steps, against segment-anything's parts"
    ),
    "bench shards": Command(
        "bench.config:BenchShardsConfig", "bench.shards:run", "samples a second, against the stock way"
    ),
    "bench training": Command(
        "bench.config:BenchTrainingConfig", "bench.training:run", "seconds of a training step, part by part"
    ),
    "bench processes": Command(
        "bench.config:BenchProcessesConfig",
        "bench.processes:run",
        "training steps on one and several processes, and what they wait for",
    ),
    "bench scale": Command(
        "bench.config:BenchScaleConfig", "bench.scale:run", "1 to 512 GPUs, computed from measured times"
    ),
    "bench evaluator": Command(
        "bench.config:BenchEvaluatorConfig", "bench.evaluator:run", "score, against the official way"
    ),
    "bench cascade": Command(
        "bench.config:BenchCascadeConfig", "bench.cascade:run", "from answers to labels, against scipy"
    ),
    "doctor": Command("doctor:DoctorConfig", "doctor:run", "versions, devices, limits, and what is missing for what"),
    "report": Command("report.config:ReportConfig", "report.page:run", "results, curves and overlays as one HTML file"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    finally:
        # Here a pipe that nobody reads any more is swallowed; Python itself would make another exit code of it.
        OUT.flush()
        ERR.flush()


def _run(arguments: list[str]) -> int:
    name = _command_name(arguments)
    if name is None:
        return _without_command(arguments)
    try:
        config = _parse(name, arguments[len(name.split()) :])
        config.check_places()
        return _named(COMMANDS[name].run)(config)
    except KitsamError as error:
        if not (error.is_told or (error.exit_code == USAGE_ERROR and os.environ.get("LOCAL_RANK", "0") != "0")):
            _fail(name, str(error), error.exit_code)
        return error.exit_code
    except KeyboardInterrupt:
        return _end_by_interrupt(name)


def _end_by_interrupt(name: str) -> int:
    # Whoever starts processes hands Ctrl-C on to them, so that another one may come: it must not become a traceback.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if int(os.environ.get("RANK", "0")) == 0:
        goes_on = COMMANDS[name].resumes
        _fail(name, f"interrupted: {GOES_ON if goes_on else STARTS_ANEW}", INTERRUPTED)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return INTERRUPTED


def _command_name(arguments: Sequence[str]) -> str | None:
    for length in (2, 1):
        name = " ".join(arguments[:length])
        if name in COMMANDS:
            return name
    return None


def _without_command(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["--version"]:
        OUT.line(f"kitsam {__version__}")
        return 0
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        OUT.line(_overview())
        return 0 if arguments else USAGE_ERROR
    longer = [name for name in COMMANDS if name.startswith(f"{arguments[0]} ")]
    close = get_close_matches(arguments[0], COMMANDS, 1)
    if longer:
        hint = f"use {' or '.join(longer)}"
    else:
        hint = f"did you mean {close[0]}?" if close else "`kitsam --help` lists the commands"
    return _fail(None, f"unknown command {arguments[0]}: {hint}", USAGE_ERROR)


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
            "`kitsam COMMAND --help` explains a command's options. embed, train, evaluate and predict also run",
            "on several processes: accelerate launch -m kitsam COMMAND ..., or torchrun -m kitsam COMMAND ... on CPUs.",
        ]
    )


def _parse(name: str, arguments: list[str]) -> Any:
    """The command's dataclass, filled from `--config`, then from the options."""
    from kitsam.system.command_line import read_command_line

    return read_command_line(f"kitsam {name}", _named(COMMANDS[name].config), arguments)


def _named(place: str) -> Any:
    """What `module:name` in the table of commands stands for."""
    module, name = place.split(":")
    return getattr(import_module(f"kitsam.{module}"), name)


def _fail(name: str | None, message: str, code: int) -> int:
    ERR.line(f"kitsam{f' {name}' if name else ''}: error: {' '.join(message.split())}")
    return code
