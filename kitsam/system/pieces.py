"""What is said of the pieces of a work that several processes share: once, and in the order of the pieces."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist

from kitsam.system.console import Line, is_main_process, keep_lines
from kitsam.system.processes import open_store


class Pieces:
    """Takes up what `say` and `warn` are told of each piece; the main process shows it when its turn has come.

    The other processes' lines go through torch's store, so that a long work is heard of while it lasts. Each process
    does its pieces in rising order, and each piece is done by one process.
    """

    def __init__(self) -> None:
        self.store = open_store("pieces") if dist.is_initialized() else None
        self.own: dict[int, list[Line]] = {}  # lines of the main process's pieces whose turn has not come
        self.next = 0  # piece to show

    @contextmanager
    def piece(self, number: int) -> Iterator[None]:
        """Numbers count from 0 over all processes. After an error, what was said is shown at once."""
        with keep_lines() as lines:
            yield
        if not is_main_process():
            self.store.set(str(number), json.dumps(lines))
            return
        self.own[number] = lines
        self._show()

    def finish(self) -> None:
        """Wait for all processes, and show what has not been shown. Every process must come here."""
        if self.store is not None:
            dist.barrier()
            if is_main_process():
                self._show()

    def _show(self) -> None:
        while (lines := self._take(self.next)) is not None:
            for line in lines:
                line.show()
            self.next += 1

    def _take(self, number: int) -> list[Line] | None:
        """None where the piece is not done yet."""
        if number in self.own:
            return self.own.pop(number)
        if self.store is None or not self.store.check([str(number)]):
            return None
        return [Line(*line) for line in json.loads(self.store.get(str(number)))]
