"""Units that several processes share: each writes a part, a small shard set of its own, and parts are joined.

`parts/UNIT.FIRST-STOP/` holds the unit's shards with the members FIRST to STOP, their indexes and, written last, a
record as a unit has it. A shard is its parts one behind the other, so the set has the same bytes as one process's, and
parts of an earlier start are of use whatever the number of processes then. Cost: what is shared is written, read and
written again; a shard's parts go as soon as it is joined.
"""

import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from kitsam.embedding.shares import Span, gaps
from kitsam.embedding.units import Unit
from kitsam.shards.index import index_path, write_index
from kitsam.shards.units import UNITS_FOLDER, UnitRecord, read_unit, unit_path, write_unit
from kitsam.shards.writer import ShardWriter
from kitsam.system.errors import KitsamError, ShardError

PARTS = "parts"
NAME = re.compile(r"(.+)\.(\d+)-(\d+)", re.ASCII)


def part_folder(out: Path, span: Span) -> Path:
    return out / PARTS / f"{span.unit}.{span.first}-{span.stop}"


def is_complete(shard: Path) -> bool:
    return shard.exists() and index_path(shard).exists()


def find_parts(out: Path, unit: Unit, is_usable: Callable[[UnitRecord], bool]) -> list[Span]:
    """The parts of a unit that earlier starts left, in order; `is_usable`: by the record of one."""
    records = {}
    for folder in (out / PARTS).glob(f"{unit.name}.*"):
        name = NAME.fullmatch(folder.name)
        if name and name[1] == unit.name:
            with suppress(KitsamError):
                records[Span(unit.name, int(name[2]), int(name[3]))] = read_unit(folder, unit.name)
    usable = {span: record.shards for span, record in sorted(records.items()) if is_usable(record)}
    present = {
        span: {one for one in shards if is_complete(part_folder(out, span) / one)} for span, shards in usable.items()
    }
    # A shard that is joined has no parts any more; none is joined before all parts of its unit are there.
    joined = {one for shards in usable.values() for one in shards if is_complete(out / one)}
    parts = _apart([span for span, shards in usable.items() if present[span] | joined >= {*shards}])
    if not list(gaps(unit, parts)):
        return parts
    return _apart([span for span, shards in usable.items() if present[span] == {*shards}])


def _apart(spans: Sequence[Span]) -> list[Span]:
    """Without those that overlap one before them."""
    kept: list[Span] = []
    for span in spans:
        if not kept or kept[-1].stop <= span.first:
            kept.append(span)
    return kept


def clear_parts(out: Path, keep: Sequence[Span] = ()) -> None:
    """Remove all parts but those."""
    names = {part_folder(out, span).name for span in keep}
    for folder in (out / PARTS).glob("*"):
        if folder.name not in names:
            shutil.rmtree(folder)
    if not names and (out / PARTS).exists():
        (out / PARTS).rmdir()


def join_shard(out: Path, name: str, parts: Sequence[Span]) -> None:
    """Put a shard of the set together, of all parts of its unit; nothing where its cases were all left out."""
    if is_complete(out / name):
        return
    folders = [part_folder(out, span) for span in parts]
    sources = [folder / name for folder, span in zip(folders, parts) if name in read_unit(folder, span.unit).shards]
    if not sources:
        return
    with ShardWriter(out / name) as writer:
        for source in sources:
            _append(writer, source)
    write_index(out / name, writer.index())
    for source in sources:
        source.unlink()
        index_path(source).unlink()


def _append(writer: ShardWriter, source: Path) -> None:
    """A part that cannot be used is unfinished again: the next start makes it anew."""
    try:
        writer.append_shard(source)
    except ShardError:
        for record in (source.parent.parent / UNITS_FOLDER).iterdir():
            record.unlink()
        raise


def join_records(out: Path, unit: Unit, parts: Sequence[Span]) -> None:
    """The record of a unit whose shards are all joined; its parts are removed.

    Raises `ShardError` where one process could read a scan and another could not, or another scan.
    """
    records = [read_unit(part_folder(out, span), unit.name) for span in parts]
    scans = {(name, scan) for record in records for name, scan in record.scans.items()}
    skipped = {name: reason for record in records for name, reason in record.skipped.items()}
    doubtful = sorted(name for name in unit.cases if [case for case, _ in scans].count(name) + (name in skipped) > 1)
    if doubtful:
        for span in parts:
            unit_path(part_folder(out, span), unit.name).unlink()
        raise ShardError(
            f"{out}: processes did not read the same scans of {', '.join(doubtful)}: run the same command again"
        )
    by_case = dict(scans)
    shards = sorted({shard for record in records for shard in record.shards})
    in_order = {name: by_case[name] for name in unit.cases if name in by_case}
    left_out = {name: skipped[name] for name in unit.cases if name in skipped}
    write_unit(out, unit.name, UnitRecord(records[0].plan, in_order, left_out, tuple(shards)))
    for span in parts:
        shutil.rmtree(part_folder(out, span))
