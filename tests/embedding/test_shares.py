"""Each process's share: all of the work, once, evenly, and cut where a batch ends."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kitsam.ct.split import make_split
from kitsam.embedding.config import EmbedConfig
from kitsam.embedding.dry_run import even_shares
from kitsam.embedding.plan import CasePlan, Plan, SamplePlan
from kitsam.embedding.shares import Span, case_parts, count_slices, gaps, share_out
from kitsam.embedding.units import Unit, units_of
from kitsam.system.shares import balance


def unit(number: int, sizes: list[int]) -> Unit:
    """A unit of cases with so many slices, each second slice in another shard."""
    name = f"unit-{number}"
    cases = {f"case-{number}-{index}": size for index, size in enumerate(sizes)}
    samples = [(case, SamplePlan(z, 0, 1, 1, 0, 0)) for case, size in cases.items() for z in range(size)]
    shards = {f"{name}-{half}": tuple(one for one in samples if one[1].slice % 2 == half) for half in (0, 1)}
    return Unit(name, tuple(cases), shards)


SIZES = st.lists(st.lists(st.integers(0, 40), max_size=5), min_size=1, max_size=6)


@given(SIZES, st.integers(1, 9), st.integers(1, 20))
def test_all_is_shared_out_once_in_order_and_between_batches(sizes, batch_size, processes):
    units = {one.name: one for one in map(unit, range(len(sizes)), sizes)}
    line = [Span(one.name, 0, len(one.members)) for one in units.values()]
    hands = share_out(line, units, batch_size, processes)
    assert len(hands) == processes
    spans = [span for hand in hands for span in hand]
    for one in units.values():
        assert list(gaps(one, [span for span in spans if span.unit == one.name])) == (
            [] if one.members else [Span(one.name, 0, 0)]
        )
        assert spans.count(Span(one.name, 0, 0)) == (not one.members)
    assert [list(units).index(span.unit) for span in spans] == sorted(list(units).index(span.unit) for span in spans)
    parts = [part for span in spans for part in case_parts(units[span.unit], span)]
    assert all(part.before % batch_size == 0 for part in parts)
    assert [part.case for part in parts if not part.before] == [case for one in units.values() for case in one.cases]
    members = [member for part in parts for member in part.members]
    assert members == [member for one in units.values() for member in one.members]
    ideal = len(members) / processes
    assert all(sum(span.stop - span.first for span in hand) <= 1.02 * ideal + batch_size for hand in hands)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.data())
def test_what_earlier_starts_did_is_not_shared_out_again(sizes, data):
    one = unit(0, sizes)
    edges = sorted(data.draw(st.sets(st.integers(0, len(one.members)))))
    done = [Span(one.name, *pair) for pair in zip(edges[::2], edges[1::2])]
    hands = share_out(list(gaps(one, done)), {one.name: one}, 4, 3)
    covered = sorted([*done, *(span for hand in hands for span in hand)])
    assert list(gaps(one, covered)) == []
    assert sum(span.stop - span.first for span in covered) == len(one.members)


def kits_like_plan(cases: int) -> Plan:
    """Sizes spread as KiTS23's are: mostly some hundred slices, a few of a thousand, a third of them with a label."""
    rng = np.random.default_rng(0)
    slices = np.clip(np.exp(rng.normal(4.9, 0.75, cases)), 29, 1059).astype(int)
    names = [f"case_{number:05d}" for number in range(cases)]
    split = make_split(names, 0.1, 0)
    plans = {}
    for name, count in zip(names, slices.tolist()):
        labelled = max(1, int(count * rng.uniform(0.2, 0.5)))
        every = [SamplePlan(z, 0, 1, int(z < labelled), int(z < labelled // 3), 0) for z in range(count)]
        val = tuple(every) if name in split.val else ()
        plans[name] = CasePlan("", (1, 1, 1, 1), train=tuple(every[: 2 * labelled]), val=val)
    return Plan({}, split, (), plans, {})


def test_many_processes_have_the_same_work_to_do():
    config = EmbedConfig(Path("data"), Path("out"))
    units = units_of(kits_like_plan(489), config)
    for processes in (8, 64):
        shares = even_shares(units, config.batch_size, processes)
        assert sum(shares) == sum(one.samples for one in units)
        assert balance(shares) > 0.97


def test_a_member_is_in_the_shard_that_the_unit_names_for_it():
    one = unit(3, [5, 0, 2])
    assert [(member.case, member.sample and member.sample.slice) for member in one.members] == [
        *(("case-3-0", z) for z in range(5)), ("case-3-1", None), ("case-3-2", 0), ("case-3-2", 1)
    ]  # fmt: skip
    assert all((member.case, member.sample) in one.shards[member.shard] for member in one.members if member.sample)
    assert count_slices([Span(one.name, 4, 8)], {one.name: one}) == 3
