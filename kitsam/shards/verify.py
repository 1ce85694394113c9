"""`kitsam shards verify`: every byte and every count, against the manifest, the sidecars and the plan.

A tar cut at a member's header reads as fewer samples without any error, so readability proves nothing: the checksum and
the members' names decide. The cost is reading everything once; a few threads hash the tars.
"""

import tarfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from kitsam.shards.config import ShardsConfig, Storage
from kitsam.shards.index import ShardIndex, read_index
from kitsam.shards.manifest import INITIAL_DECODER, Manifest, ShardEntry, read_manifest
from kitsam.shards.manifest import NAME as MANIFEST
from kitsam.shards.sample import EMBEDDING, MASK, NPY_HEADER, RECORD, member_suffixes
from kitsam.shards.units import read_plan_units, read_unit
from kitsam.system.console import progress, say
from kitsam.system.download import is_address
from kitsam.system.errors import KitsamError, OptionError, ShardError
from kitsam.system.files import sha256_of

THREADS = 4  # hashing releases the interpreter


def run(config: ShardsConfig) -> int:
    if is_address(str(config.shards)):
        raise OptionError("shards: verify wants a folder; shards from an address are checked as they are fetched")
    manifest = read_manifest(config.shards, "shards")
    folder = Path(config.shards)
    entries = (*manifest.train, *manifest.val)
    find = partial(find_fault, folder, storage=manifest.embedding["dtype"])
    faults = []
    with ThreadPoolExecutor(THREADS) as threads, progress("Verifying", len(entries), "shards") as tick:
        for entry, fault in zip(entries, threads.map(find, entries)):
            if fault:
                faults.append(fault)
            tick(1, entry.name)
    faults += find_gaps(folder, manifest)
    names = {entry.name for entry in entries}
    faults += [f"{path}: not in the manifest" for path in sorted(folder.glob("*/*.tar")) if _name(path) not in names]
    for fault in faults:
        say(f"BAD {fault}")
    good = f"{len(entries)} shards, {sum(entry.samples for entry in entries)} samples"
    say(f"{len(faults)} faults in {good}" if faults else f"All good: {good}: {config.shards}")
    return 1 if faults else 0


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def find_gaps(folder: Path, manifest: Manifest) -> list[str]:
    """What the plan says that the set should hold, and it does not, a line each. Format 1 keeps no such record."""
    if manifest.format == 1:
        return []
    faults = []
    names = {entry.name for entry in (*manifest.train, *manifest.val)}
    for unit, shards in read_plan_units(folder).units.items():
        try:
            record = read_unit(folder, unit)
        except ShardError as error:
            faults.append(str(error))
            continue
        reasons = {*record.skipped.items()} - {*manifest.skipped.items()}
        lost = [name for name in shards if name not in names and not record.skipped]
        faults += [
            f"{folder / name}: in the plan, but not in the manifest" for name in sorted({*lost, *record.shards} - names)
        ]
        faults += [
            f"{folder / MANIFEST}: does not say that {case} was left out: {why}" for case, why in sorted(reasons)
        ]
    decoder = folder / INITIAL_DECODER
    if manifest.initial_decoder and (not decoder.is_file() or sha256_of(decoder) != manifest.initial_decoder):
        faults.append(f"{decoder}: missing, or its bytes have changed")
    return faults


def find_fault(folder: Path, entry: ShardEntry, storage: Storage) -> str | None:
    """What is wrong with a shard, in a line that names it; None when nothing is."""
    path = folder / entry.name
    try:
        if not path.is_file():
            return f"{path}: missing"
        index = read_index(path, entry.index_sha256)
        size = path.stat().st_size
        if size != entry.bytes:
            return f"{path}: {size} bytes, expected {entry.bytes}"
        if sha256_of(path) != entry.sha256:
            return f"{path}: its bytes have changed (SHA-256 differs)"
        if index.sha256 != entry.sha256 or len(index.samples) != entry.samples:
            return f"{path}: its index belongs to another tar"
        expected = [
            f"{sample.key}.{suffix}"
            for sample in index.samples
            for suffix in member_suffixes(storage, sample.ct is not None)
        ]
        with tarfile.open(path) as tar:
            members = tar.getmembers()
        if [member.name for member in members] != expected:
            return f"{path}: holds other members than its index says"
        if stray := _find_stray(index, members):
            return f"{path}: its index says wrongly where {stray} lies"
    except (KitsamError, OSError, tarfile.TarError) as error:
        return f"{path}: {error}"
    return None


def _find_stray(index: ShardIndex, members: list[tarfile.TarInfo]) -> str | None:
    """Key of the first sample whose offsets in the index are not those in the tar; None when all are right."""
    by_name = {member.name: member for member in members}
    for sample in index.samples:
        embedding, record, mask = (by_name[f"{sample.key}.{suffix}"] for suffix in (EMBEDDING, RECORD, MASK))
        places = embedding.offset_data + NPY_HEADER, (record.offset_data, record.size), (mask.offset_data, mask.size)
        if places != (sample.embedding, sample.record, sample.mask):
            return sample.key
    return None
