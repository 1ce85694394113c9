"""The head of a long command's log: which kitsam, on which device, by how many processes, on what, to where.

Each line begins with `# `, so that `grep -v '^#'` leaves the results. The main process says it once, when nothing can
be refused any more; what it must not hide, a GPU on which nobody computes, is a warning.
"""

import os
import platform
import socket
import sys
from dataclasses import MISSING, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kitsam import __version__
from kitsam.system.console import is_main_process, say, warn
from kitsam.system.help import dashed
from kitsam.system.machine import available_cores, processor_name, unused_gpu
from kitsam.system.options import PLACE, Options

if TYPE_CHECKING:
    import torch

# Options that the other lines answer, or that change no result.
UNTOLD = ("device", "precision", "compile", "dry_run", "wandb", "mlflow")


def say_head(
    command: str,
    config: Options,
    data: str,
    device: "torch.device | None" = None,
    precision: str = "",
    processes: int | None = None,  # of a command that starts its own, such as `score`
) -> None:
    """`data`: what is worked on; `device`: of a command that computes with torch."""
    if not is_main_process():
        return
    when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    say(f"# kitsam {__version__} {command}, {when}, {socket.gethostname()}, Python {platform.python_version()}")
    if device is not None:
        say(f"# device: {_device_text(device)}{f', {precision}' if precision else ''}")
        if device.type == "cpu" and getattr(config, "device", "auto") == "auto" and (doubt := unused_gpu()):
            warn(doubt)
    say(f"# processes: {_processes_text(processes)}")
    say(f"# data: {data}")
    if out := getattr(config, "out", None):
        say(f"# writes to: {out}")
    if changed := changed_options(config):
        say(f"# options, else as recommended: {', '.join(changed)}")


def _device_text(device: "torch.device") -> str:
    import torch

    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        name = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        return f"cuda:{torch.cuda.current_device()}, {name}, torch {torch.__version__}"
    return f"{device.type}, {processor_name()}, torch {torch.__version__}"


def _processes_text(processes: int | None) -> str:
    """Of the group that `torchrun` or `accelerate launch` started."""
    count = processes or int(os.environ.get("WORLD_SIZE", "1"))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "0")) or count
    machines = f" on {-(-count // here)} machines" if count > here else ""
    torch = sys.modules.get("torch")
    threads = f", {_counted(torch.get_num_threads(), 'thread')} each" if torch and processes is None else ""
    return f"{count}{machines}{threads}, {_counted(available_cores(), 'core')} here"


def _counted(number: int, name: str) -> str:
    return f"{number} {name}{'s' * (number != 1)}"


def changed_options(config: Options) -> list[str]:
    """`name=value` of the options that are not as they are when not given; files and folders are not listed."""
    kind = type(config)
    required = {
        one.name: getattr(config, one.name)
        for one in fields(config)
        if one.default is MISSING and one.default_factory is MISSING
    }
    return _differences(config, kind(**required), "")


def _differences(config: Options, usual: Options, section: str) -> list[str]:
    found = []
    for one in fields(config):
        value, other = getattr(config, one.name), getattr(usual, one.name)
        if isinstance(value, Options):
            found += _differences(value, other, f"{section}{one.name}.")
        elif value != other and PLACE not in one.metadata and one.name not in UNTOLD:
            found.append(f"{dashed(section + one.name)}={_short(value)}")
    return found


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_short(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_short, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
