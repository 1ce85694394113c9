"""The validation cases' scans themselves, where stored embeddings are not enough."""

from collections.abc import Callable, Mapping
from functools import cache

from torch import Tensor

from kitsam.ct.body import BodyBox
from kitsam.ct.case import CaseFiles
from kitsam.ct.config import InputConfig
from kitsam.ct.volume import read_image
from kitsam.evaluation.labelling import Grays
from kitsam.inference.cascade import GraySource
from kitsam.inference.scan_embeddings import grays_of
from kitsam.shards.manifest import Manifest, ShardEntry
from kitsam.system.errors import OptionError
from kitsam.system.files import sha256_of
from kitsam.system.records import as_record


def check_scans(files: Mapping[str, CaseFiles], manifest: Manifest, shards: str, option: str) -> None:
    """Raises `OptionError` naming a validation case's scan that is missing or is not the shard set's."""
    for name in manifest.scans(manifest.split.val):
        path, known = files[name].imaging, manifest.cases.get(name)
        if not path.is_file():
            raise OptionError(f"--{option}: no such file: {path}")
        if known and sha256_of(path) != known.imaging:
            raise OptionError(f"--{option}: {path}: not the scan that {shards} was made from")


def grays_in(
    files: Mapping[str, CaseFiles],
    manifest: Manifest,
    shards: str,
    body_of: Callable[[ShardEntry], BodyBox] | None,  # where the slices of the set are cut to it
) -> Grays:
    """The slices as the encoder's window shows them; a scan is read when the first of its slices is asked for."""
    settings = as_record(manifest.input, InputConfig, shards)

    def of_case(entry: ShardEntry) -> GraySource:
        @cache
        def source() -> GraySource:
            voxels = read_image(files[entry.case].imaging).voxels
            return grays_of(body_of(entry).cut(voxels) if body_of else voxels, settings)

        def grays(first: int, count: int) -> Tensor:
            return source()(first, count)

        return grays

    return of_case
