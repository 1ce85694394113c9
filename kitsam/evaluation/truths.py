"""The truth of the cases to evaluate: whether it is the shard set's, and what there is to say of it."""

from pathlib import Path

from kitsam.ct.case import CaseFiles, read_truth, try_case
from kitsam.ct.volume import Volume, read_label
from kitsam.evaluation.case_results import CaseResult, write_result
from kitsam.shards.manifest import Manifest
from kitsam.system.console import warn
from kitsam.system.errors import CaseError, OptionError
from kitsam.system.files import sha256_of
from kitsam.system.pieces import Pieces
from kitsam.system.shares import Part


def check_labels(data: Path, shards: str, files: dict[str, CaseFiles], manifest: Manifest) -> None:
    """Raises `OptionError` naming a validation case that the data lack, or whose labels are not the shard set's.

    Labels that cannot be read at all are a bad case, which ends no long job.
    """
    names = [case.case for case in manifest.val]
    absent = [name for name in names if name not in files]
    if absent:
        raise OptionError(f"--data: {data} lacks {', '.join(absent)} of the shard set's validation cases")
    for name in names:
        path = files[name].segmentation
        known = manifest.cases.get(name)
        if not known or not path.is_file() or sha256_of(path) == known.segmentation:
            continue
        if not isinstance(try_case(read_label, path), CaseError):
            raise OptionError(f"--data: {path}: not the labels that {shards} was made from")


def read_truth_once(files: CaseFiles, part: Part, pieces: Pieces, out: Path, fingerprint: str) -> Volume | None:
    """The process with the first span of a case says what there is to say of it. None for one that cannot be used."""
    if part.first == 0:
        with pieces.piece(part.item):
            return _read_truth(files, out, fingerprint)
    truth = try_case(read_truth, files)
    return None if isinstance(truth, CaseError) else truth


def _read_truth(files: CaseFiles, out: Path, fingerprint: str) -> Volume | None:
    """None for a case that cannot be used, which becomes its result."""
    try:
        truth = read_truth(files)
    except CaseError as error:
        warn(f"{files.name} is left out: {error}")
        write_result(out, files.name, CaseResult(fingerprint, skipped=str(error)))
        return None
    for doubt in truth.doubts:
        warn(doubt)
    return truth
