"""How much of a scan's work is done, in slices: one progress bar covers all of it, from reading to pictures.

Each stage of the way has a share of the time, estimated for an encoder that is light beside the decoders and for one
that is heavy. They decide only how evenly the bar runs.
"""

from collections.abc import Mapping
from typing import Literal

from kitsam.system.console import Tick

Stage = Literal["encode", "roi", "lesions"]

LIGHT: Mapping[Stage, float] = {"encode": 0.35, "roi": 0.35, "lesions": 0.2}  # lite_medsam, tiny
HEAVY: Mapping[Stage, float] = {"encode": 0.9, "roi": 0.05, "lesions": 0.03}  # a ViT
BOXES: Mapping[Stage, float] = {"encode": 0.9}  # a checkpoint's decoder is asked as its slices are encoded


class ScanWork:
    """The work on one scan."""

    def __init__(self, tick: Tick, slices: int, note: str = "") -> None:
        """`slices`: what the scan counts for on the bar."""
        self._tick, self.slices, self._note = tick, slices, note
        self._done = 0.0  # share of the scan's work

    def add(self, share: float) -> None:
        """So much more of the scan's work is done."""
        share = min(share, 1 - self._done)
        self._done += share
        self._tick(share * self.slices, self._note)

    def finish(self) -> None:
        """All is done, whatever was counted so far."""
        self.add(1 - self._done)


def no_work() -> ScanWork:
    """For those who show nothing."""
    return ScanWork(lambda advance=1, note="": None, 0)
