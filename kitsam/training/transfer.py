"""Batches to the device, each copied while the step on the one before is computed.

A GPU copies on a stream of its own, from pinned memory into two buffers by turns: one is in use, the other is filled.
Events keep the order where two streams meet; the program itself waits for none of it.
"""

from collections.abc import Iterator
from contextlib import closing

import torch
from torch import Tensor

from kitsam.training.questions import Questions


def on_device(batches: Iterator[Questions], device: torch.device) -> Iterator[Questions]:
    """The same batches, in the device's memory; one is valid until the next is taken.

    A GPU's come from pinned memory, and each is asked for one step before it is needed.
    """
    return _copied_ahead(batches, device) if device.type == "cuda" else batches


def _copied_ahead(batches: Iterator[Questions], device: torch.device) -> Iterator[Questions]:
    stream = torch.cuda.Stream(device)
    used, filled = _Buffer(stream, device), _Buffer(stream, device)
    with closing(batches):
        batch = filled.fill(batches)
        while batch is not None:
            used, filled = filled, used
            following = filled.fill(batches)
            torch.cuda.current_stream(device).wait_event(used.copy_end)
            yield batch
            used.use_end.record(torch.cuda.current_stream(device))
            batch = following


class _Buffer:
    """The device's memory for one batch after another."""

    def __init__(self, stream: torch.cuda.Stream, device: torch.device) -> None:
        self.stream, self.device = stream, device
        self.tensors: dict[str, Tensor] = {}
        self.copy_end, self.use_end = torch.cuda.Event(), torch.cuda.Event()

    def fill(self, batches: Iterator[Questions]) -> Questions | None:
        """Have the next batch copied, if there is one, when nobody uses the last one any more."""
        # Asked for here, the reader notes on this stream when its memory may be read into again: after the last copy.
        with torch.cuda.stream(self.stream):
            batch = next(batches, None)
            if batch is not None:
                self.stream.wait_event(self.use_end)
                batch = batch.each(self._copy)
                self.copy_end.record(self.stream)
        return batch

    def _copy(self, name: str, tensor: Tensor) -> Tensor:
        held = self.tensors.get(name)
        if held is None or len(held) < len(tensor) or held.shape[1:] != tensor.shape[1:]:
            held = self.tensors[name] = torch.empty_like(tensor, device=self.device)
        return held[: len(tensor)].copy_(tensor, non_blocking=True)
