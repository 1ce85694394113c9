"""Several processes as one: the main process decides and tells the others, and an error of one is an error of all.

No process looks into a folder for a decision of its own: a shared file system may show it an older state than it shows
the others. Every process must come to each of these calls, and in the same order. With one process they cost nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch.distributed as dist

from kitsam.system.console import is_main_process
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.locks import Writer, read_writer, sole_writer

T = TypeVar("T")


class _Outcome(NamedTuple):
    """What a function made, or why it could not."""

    value: object = None
    error: KitsamError | None = None


def decide(work: Callable[[], T]) -> T:
    """What `work` gives in the main process, in all of them; it must be possible to pickle it.

    Its error ends all processes, with one line and one exit code.
    """
    outcomes = [_outcome_of(work) if is_main_process() else None]
    if dist.is_initialized():
        dist.broadcast_object_list(outcomes, src=0)
    value, error = outcomes[0]
    if error:
        raise _told(error)
    return value


def together(work: Callable[[], T]) -> T:
    """What `work` gives in this process. An error of it in any process ends all, with the line of the first."""
    value, error = _outcome_of(work)
    errors = [error]
    if dist.is_initialized():
        errors = [None] * dist.get_world_size()
        dist.all_gather_object(errors, error)
    if first := next(filter(None, errors), None):
        raise _told(first)
    return value


def _outcome_of(work: Callable[[], T]) -> _Outcome:
    try:
        return _Outcome(value=work())
    except KitsamError as error:
        return _Outcome(error=error)


def _told(error: KitsamError) -> KitsamError:
    error.is_told = not is_main_process()
    return error


@contextmanager
def sole_writers(out: Path) -> Iterator[None]:
    """These processes alone write to `out` until the block ends.

    Raises `OptionError` where others do, or where not all of these processes see the same folder.
    """
    with ExitStack() as stack:
        writer = decide(lambda: stack.enter_context(sole_writer(out)))
        together(lambda: _check_same_folder(out, writer))
        yield


def _check_same_folder(out: Path, writer: Writer) -> None:
    seen = read_writer(out)
    if seen != writer:
        raise OptionError(
            f"--out: {out} is another folder on {Writer.this().host} than on {writer.host}: "
            "several machines need a file system that they share"
        )
