"""Options of shard sets: how embeddings are stored, where sets at an address are cached."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kitsam.system.options import Options, amount, check_place, count, number, place, positional

Storage = Literal["float16", "int8"]


@dataclass
class CacheConfig(Options, section="cache"):
    """Where the shards of a set that is given by its address are kept on this machine, for all processes."""

    folder: Path | None = place("new folder", None)
    """folder of the cache; $KITSAM_CACHE/shards, or ~/.cache/kitsam/shards, if not given"""
    size: float = amount(100.0)
    """most that the cached shards may take, beside those on their way, GiB; what was used longest ago goes first"""
    ahead: int = number(100, least=0)
    """steps by which shards are fetched before they are needed"""
    fetches: int = count(8)
    """shards that are fetched at a time ahead of need"""


@dataclass
class ShardsConfig(Options, example="kitsam shards verify shards/kits23"):
    """Check every byte of a shard set against its checksums, and name each bad shard."""

    shards: str = positional()
    """folder of the shard set, or its address"""
    cache: CacheConfig = field(default_factory=CacheConfig)

    def check_places(self) -> None:
        super().check_places()
        check_shards(self.shards, self.option("shards"))


@dataclass
class ShardsInfoConfig(Options, example="kitsam shards info shards/kits23"):
    """Say what a shard set holds."""

    shards: str = positional()
    """folder of the shard set, or its address"""
    cache: CacheConfig = field(default_factory=CacheConfig)

    def check_places(self) -> None:
        super().check_places()
        check_shards(self.shards, self.option("shards"))


def check_shards(shards: str | Path, option: str) -> None:
    """Raises `OptionError` where a folder holds no finished shard set; an address is for the command itself to try."""
    from kitsam.system.download import is_address

    if not is_address(str(shards)):
        check_place(option, Path(shards), "folder")  # before what reads a manifest is imported, which takes a second
        from kitsam.shards.manifest import read_manifest

        read_manifest(shards, option)
