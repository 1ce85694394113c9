from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kitsam.shards.order import BatchCounts, SampleOrder, StratumShards, quota_weights
from kitsam.system.errors import OptionError

WEIGHTS = st.lists(st.integers(1, 100), min_size=1, max_size=5)


def make_order(sizes: dict[str, list[int]], weights: dict[str, int], batch_size: int, seed: int = 0) -> SampleOrder:
    strata, first = {}, 0
    for stratum, samples in sizes.items():
        strata[stratum] = StratumShards(tuple(range(first, first + len(samples))), tuple(samples))
        first += len(samples)
    return SampleOrder(strata, weights, batch_size, seed)


@given(WEIGHTS, st.integers(1, 64), st.integers(0, 300))
def test_quotas_are_met_exactly_after_each_period_and_nearly_before(weights, batch_size, step):
    counts = BatchCounts(weights, batch_size)
    drawn = counts.samples_before(step)
    assert sum(drawn) == step * batch_size
    for count, weight in zip(drawn, weights):
        owed = step * batch_size * weight / sum(weights)
        assert -len(weights) < count - owed < 1 + 1e-9
    period = counts.samples_before(counts.period)
    assert [count * sum(weights) for count in period] == [weight * counts.period * batch_size for weight in weights]


@given(WEIGHTS, st.integers(1, 32), st.integers(0, 400))
def test_counts_of_a_step_do_not_depend_on_what_was_asked_before(weights, batch_size, step):
    walked = BatchCounts(weights, batch_size)
    for earlier in range(step):
        walked.samples_before(earlier)
    assert walked.samples_before(step) == BatchCounts(weights, batch_size).samples_before(step)
    assert all(b >= a for a, b in zip(walked.samples_before(step), walked.samples_before(step + 1)))


def test_one_in_97_is_met():
    counts = BatchCounts([1, 96], 8)
    assert counts.samples_before(97) == (8, 768)
    assert counts.samples_before(97 * 1000 + 3)[0] in (8000, 8001)


@settings(max_examples=40)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=11), st.integers(1, 7), st.integers(0, 5))
def test_every_sample_of_a_stratum_comes_once_a_pass(samples, batch_size, seed):
    order = make_order({"kidney": samples}, {"kidney": 1}, batch_size, seed)
    total = sum(samples)
    steps = 3 * total  # batch_size * 3 passes
    stream = [address for step in range(steps) for address in order.batch(step)]
    for first in range(0, len(stream), total):
        assert len(set(stream[first : first + total])) == total


def test_passes_differ_from_each_other_and_between_seeds():
    order, other = (make_order({"kidney": [20, 20, 20]}, {"kidney": 1}, 60, seed) for seed in (0, 1))
    assert order.batch(0) != order.batch(1) != other.batch(1)
    assert sorted(order.batch(0)) == sorted(order.batch(1)) == sorted(other.batch(0))


def test_a_step_reads_few_shards():
    order = make_order({"kidney": [50] * 100}, {"kidney": 1}, 64)
    for step in range(40):
        assert len({address.shard for address in order.batch(step)}) <= 8


def test_a_stratum_of_one_sample_is_repeated_as_its_quota_says():
    order = make_order({"kidney": [30], "cyst": [1]}, {"kidney": 2, "cyst": 1}, 6)
    assert Counter(address.shard for address in order.batch(3)) == {0: 4, 1: 2}


@pytest.mark.parametrize("ranks", [1, 2, 3, 6])
def test_ranks_are_disjoint_complete_and_each_has_its_share_of_each_stratum(ranks):
    order = make_order({"kidney": [40], "tumor": [30], "cyst": [9]}, {"kidney": 3, "tumor": 2, "cyst": 1}, 12)
    for step in range(5):
        parts = [order.rank_batch(step, rank, ranks) for rank in range(ranks)]
        assert Counter(address for part in parts for address in part) == Counter(order.batch(step))
        for shard in range(3):
            share = [sum(address.shard == shard for address in part) for part in parts]
            assert max(share) - min(share) <= 1


def test_any_step_can_be_named_first():
    sizes, weights = {"kidney": [7, 5], "tumor": [3]}, {"kidney": 5, "tumor": 3}
    walked = make_order(sizes, weights, 4)
    batches = [walked.batch(step) for step in range(50)]
    for step in np.random.default_rng(0).permutation(50):
        assert make_order(sizes, weights, 4).batch(int(step)) == batches[step]


def test_natural_quotas_are_the_datas_own():
    assert quota_weights("natural", {"kidney": 60, "tumor": 20, "cyst": 0}) == {"kidney": 3, "tumor": 1}


def test_fractions_become_whole_weights_and_empty_strata_are_left_out():
    assert quota_weights({"kidney": 0.5, "tumor": 0.25, "cyst": 1}, {"kidney": 9, "tumor": 9, "cyst": 0}) == {
        "kidney": 2,
        "tumor": 1,
    }


@pytest.mark.parametrize(
    ("quotas", "message"),
    [({"liver": 1}, "unknown stratum liver"), ({"kidney": -1}, "share of kidney"), ({"cyst": 1}, "no training sample")],
)
def test_quotas_that_cannot_be_met_are_refused_by_name(quotas, message):
    with pytest.raises(OptionError, match=f"--quotas: .*{message}"):
        quota_weights(quotas, {"kidney": 5, "cyst": 0})
