"""Cases in equal shares: a long one is labelled by several processes, each a span of its slices.

A case of a thousand slices is many processes' share of KiTS's validation cases. Its processes meet twice, for what must
be done in 3-D (`labelling.py`); what each has found by then lies in files beside the results, in a folder that all see.
A span begins where a batch would if one process did all, so that the numbers are the same. Cost: each of them reads the
case's truth and cleans its whole ROI.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from kitsam.system.errors import KitsamError
from kitsam.system.files import complete_or_absent
from kitsam.system.shares import Part, cut_line

SPANS = "spans"
# What a file holds of a span: the ROI, all labels, and what decoders answered (`listening.py`).
Stage = Literal["begun", "labels", "levels", "counts"]


def share_cases(slices: Sequence[int], batch_size: int, processes: int) -> list[list[Part]]:
    """Spans of cases with so many slices for each process, in whole batches."""
    batches = [-(-count // batch_size) for count in slices]
    shares = cut_line(batches, processes, lambda case, place: round(place))
    return [
        [Part(case, first * batch_size, min(stop * batch_size, slices[case])) for case, first, stop in share]
        for share in shares
    ]


def spans_of(shares: list[list[Part]], case: int) -> list[Part]:
    return [part for share in shares for part in share if part.item == case]


def write_span(out: Path, name: str, stage: Stage, part: Part, content: np.ndarray) -> None:
    with complete_or_absent(_path(out, name, stage, part)) as temporary:
        np.savez_compressed(temporary, content=content)


def read_spans(out: Path, name: str, stage: Stage, parts: Sequence[Part]) -> np.ndarray:
    """What the spans hold, one after the other along the first axis."""
    return np.concatenate([_read(_path(out, name, stage, part)) for part in parts])


def _read(path: Path) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as file:
            return file["content"]
    except OSError as error:
        raise KitsamError(f"{path}: cannot be read: {error.strerror or error}") from error


def _path(out: Path, name: str, stage: Stage, part: Part) -> Path:
    return out / SPANS / f"{name}.{stage}.{part.first}-{part.stop}.npz"


def remove_spans(out: Path) -> None:
    shutil.rmtree(out / SPANS, ignore_errors=True)
