"""`kitsam info`: what a file or folder is, as a table on a terminal, as lines in a pipe, as JSON for a program.

No weights are read and torch is not imported: a bundle of gigabytes answers as quickly as a small one. A scan is read
whole, since what is doubtful about it shows in its voxels.
"""

import json
from pathlib import Path

from rich.table import Table

from kitsam.ct.scan_files import INSTALL, find_files
from kitsam.decoding.records import CONFIG, SHARD_SET
from kitsam.info.config import InfoConfig
from kitsam.info.description import Description
from kitsam.info.models import describe_run, describe_tensors
from kitsam.shards.manifest import NAME as MANIFEST
from kitsam.system.console import say
from kitsam.system.download import is_address
from kitsam.system.errors import OptionError
from kitsam.system.streams import OUT

TENSORS = ".safetensors"
OTHERS = f"a bundle or decoder ({TENSORS}), a run's folder ({CONFIG}), a shard set's folder or address ({MANIFEST})"


def run(config: InfoConfig) -> int:
    description = describe(config.path)
    if config.json:
        OUT.line(json.dumps({"kind": description.kind, "path": config.path, **description.content}, indent=1))
    elif OUT.isatty():
        say(_table(config.path, description))
    else:
        say(f"{config.path}: {description.kind}")
        for name, text in description.rows:
            say(f"{name}: {text}")
    return 0


def describe(path: str) -> Description:
    """Raises `OptionError` where a path is none of what is accepted, `KitsamError` where it is damaged."""
    place = Path(path)
    if is_address(path) or (place / MANIFEST).is_file():
        from kitsam.info.data import describe_shard_set  # here and below: nibabel takes half a second

        return describe_shard_set(path)
    if (place / CONFIG).is_file() and (place / SHARD_SET).is_file():
        return describe_run(place)
    if not place.exists():
        raise OptionError(f"PATH: no such file or folder: {path}")
    if place.suffix == TENSORS:
        return describe_tensors(place)
    try:
        scans = find_files(place, "PATH")
    except OptionError as error:
        if INSTALL in str(error):
            raise  # a scan, but without the package that reads it
        raise OptionError(f"{error}; accepted too: {OTHERS}") from error
    if len(scans) > 1:
        names = ", ".join(str(scan.path) for scan in scans[:3])
        raise OptionError(f"PATH: {path}: a folder of {len(scans)} scans, give one of them: {names}...")
    from kitsam.info.data import describe_scan

    return describe_scan(scans[0])


def _table(path: str, description: Description) -> Table:
    table = Table(title=f"{path}: {description.kind}", title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in description.rows:
        table.add_row(*row)
    return table
