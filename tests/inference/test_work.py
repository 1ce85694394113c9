"""One bar over all scans: each adds up to its slices, whatever its stages told."""

import pytest

from kitsam.inference.work import BOXES, HEAVY, LIGHT, ScanWork


@pytest.mark.parametrize("shares", [[], [0.3, 0.3], [0.9, 0.9]])
def test_a_scan_counts_its_slices_once(shares):
    ticks = []
    work = ScanWork(lambda advance, note: ticks.append((advance, note)), 40, "scan 3 of 20: a")
    for share in shares:
        work.add(share)
    assert sum(advance for advance, _ in ticks) <= 40
    work.finish()
    assert sum(advance for advance, _ in ticks) == pytest.approx(40) and ticks[-1][1] == "scan 3 of 20: a"


def test_the_stages_leave_something_for_reading_and_writing():
    assert all(0.5 < sum(shares.values()) < 1 for shares in (LIGHT, HEAVY, BOXES))
