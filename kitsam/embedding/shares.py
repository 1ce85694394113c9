"""Each process's share of what is to be embedded: equal spans of one line.

All samples that are missing stand in a line, unit by unit and case by case, which is cut evenly. A cut lies between
two cases where they meet near by, or else between two batches of a case: the same slices are encoded together whatever
the number of processes. Cost: a case that is cut is read twice.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from kitsam.embedding.units import Member, Unit
from kitsam.system.shares import cut_line

NEAR = 0.01  # of a share: a case's end so near to a cut is taken instead


class Span(NamedTuple):
    """Some of a unit's members, in their order."""

    unit: str
    first: int
    stop: int

    def is_whole(self, unit: Unit) -> bool:
        return self.first == 0 and self.stop == len(unit.members)


class CasePart(NamedTuple):
    """Members of one case, in their order."""

    case: str
    members: tuple[Member, ...]
    before: int  # members of the case that stand before these


def case_parts(unit: Unit, span: Span) -> list[CasePart]:
    ends = (*unit.starts[1:], len(unit.members))
    parts = []
    for start, end in zip(unit.starts, ends):
        first, stop = max(start, span.first), min(end, span.stop)
        if first < stop:
            parts.append(CasePart(unit.members[first].case, unit.members[first:stop], first - start))
    return parts


def gaps(unit: Unit, done: Sequence[Span]) -> Iterator[Span]:
    """What is missing of a unit; `done`: spans in order that do not overlap. One without members is missing whole."""
    at = 0
    for span in done:
        if at < span.first:
            yield Span(unit.name, at, span.first)
        at = span.stop
    if at < len(unit.members) or not unit.members:
        yield Span(unit.name, at, len(unit.members))


def share_out(line: Sequence[Span], units: Mapping[str, Unit], batch_size: int, processes: int) -> list[list[Span]]:
    """Spans for each process, in the order of `line`."""
    sizes = [span.stop - span.first for span in line]
    near = NEAR * sum(sizes) / processes

    def cut(item: int, place: float) -> int:
        span = line[item]
        edge = _edge(units[span.unit], place + span.first, near, batch_size)
        return min(max(edge, span.first), span.stop) - span.first

    shares = cut_line(sizes, processes, cut)
    return [
        [Span(line[part.item].unit, *(line[part.item].first + at for at in part[1:])) for part in share]
        for share in shares
    ]


def _edge(unit: Unit, place: float, near: float, batch_size: int) -> int:
    """The member near `place` with which a case or a batch begins."""
    case = bisect_right(unit.starts, place) - 1
    start, end = (*unit.starts, len(unit.members))[case : case + 2] if unit.members else (0, 0)
    edge = min(start, end, key=lambda one: abs(one - place))
    if abs(edge - place) <= near:
        return edge
    return min(start + round((place - start) / batch_size) * batch_size, end)


def count_slices(spans: Iterable[Span], units: Mapping[str, Unit]) -> int:
    return sum(
        member.sample is not None for span in spans for member in units[span.unit].members[span.first : span.stop]
    )
