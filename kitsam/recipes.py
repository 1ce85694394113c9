"""`kitsam config` and `kitsam launch`: what to start with, as `configs` and `launch` of the project hold it.

Both folders are in the installed package too. Without a name a command lists what there is; with `--out` it writes
files, all of them where none is named, so that lines such as `--config configs/roi.yaml` work as they stand.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kitsam.system.command_line import did_you_mean
from kitsam.system.console import say
from kitsam.system.errors import OptionError
from kitsam.system.files import write_text
from kitsam.system.options import Options, leading, place
from kitsam.system.streams import OUT

CONFIGS, LAUNCH = "configs", "launch"


@dataclass
class ConfigConfig(Options, example="kitsam config roi > roi.yaml"):
    """Print a recipe: a file of options for `--config` of embed, train or evaluate. Without a name, list them."""

    name: str | None = leading(None)
    """such as roi, lite/roi or small/embed"""
    out: Path | None = place("new folder", None)
    """write it to this folder instead; without a name all recipes, as `configs` of the project"""


@dataclass
class LaunchConfig(Options, example="kitsam launch --out launch"):
    """Print a script or configuration that starts kitsam on several processes or machines. Without a name, list them.

    Some call others: `--out launch` writes all of them.
    """

    name: str | None = leading(None)
    """such as cpu.sh, train.sbatch or one_machine.yaml"""
    out: Path | None = place("new folder", None)
    """write it to this folder instead; without a name all of them, as `launch` of the project"""


def print_config(config: ConfigConfig) -> int:
    return _give(CONFIGS, config, lambda path: path.with_suffix("").as_posix())


def print_launcher(config: LaunchConfig) -> int:
    return _give(LAUNCH, config, lambda path: path.as_posix())


def _give(folder: str, config: ConfigConfig | LaunchConfig, name_of: Callable[[Path], str]) -> int:
    """`name_of`: what a file below the folder is called."""
    root = _find_folder(folder)
    files = {name_of(path.relative_to(root)): path for path in sorted(root.rglob("*")) if path.is_file()}
    chosen = files if config.name is None else {config.name: _choose(files, config)}
    if config.out:
        for path in chosen.values():
            _copy(path, config.out / path.relative_to(root))
    elif config.name is None:
        width = max(map(len, files))
        for name, path in files.items():
            OUT.line(f"{name:<{width}}  {_first_comment(path)}")
    else:
        OUT.write(chosen[config.name].read_text(encoding="utf-8"))
    return 0


def _find_folder(name: str) -> Path:
    """In the installed package, else in the project that this package is a part of."""
    package = Path(__file__).parent
    return package / name if (package / name).is_dir() else package.parent / name


def _choose(files: dict[str, Path], config: ConfigConfig | LaunchConfig) -> Path:
    if config.name not in files:
        hint = did_you_mean(config.name, files) or f": there are {', '.join(files)}"
        raise OptionError(f"NAME: no {config.name} here{hint}")
    return files[config.name]


def _first_comment(path: Path) -> str:
    """The first sentence that a file says of itself."""
    lines = path.read_text(encoding="utf-8").splitlines()
    first = next((line.lstrip("# ") for line in lines if line.startswith("#") and not line.startswith("#!")), "")
    return first.partition(". ")[0].rstrip(":")


def _copy(path: Path, target: Path) -> None:
    """Raises `OptionError` where another file is in the way."""
    text = path.read_text(encoding="utf-8")
    if target.exists() and target.read_text(encoding="utf-8", errors="replace") != text:
        raise OptionError(f"--out: {target}: there is another file of that name: choose another folder")
    write_text(target, text)
    if text.startswith("#!"):
        target.chmod(target.stat().st_mode | 0o111)
    say(f"Wrote {target}")
