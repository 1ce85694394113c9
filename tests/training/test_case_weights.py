from collections import Counter
from dataclasses import replace

import pytest
import torch
from tiny import train_config

from kitsam.ct.strata import strata_for
from kitsam.shards.reader import ShardSet
from kitsam.training.case_weights import case_weights
from kitsam.training.config import LossConfig
from kitsam.training.setup import set_up
from kitsam.training.step import train_step


@pytest.fixture
def set_and_order(shards):
    read = ShardSet(shards)
    return read, read.order("natural", 4, 0, strata_for("tumor"))


@pytest.fixture
def slices(set_and_order):
    """Of each case, counted in the indexes themselves."""
    shards, order = set_and_order
    entries = [entry for entry in shards.manifest.train if entry.stratum in order.strata]
    return Counter(sample.case for entry in entries for sample in shards.index(entry).samples)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_a_slice_weighs_one_on_average_and_by_a_power_of_its_case(set_and_order, slices, exponent):
    weights = case_weights(*set_and_order, exponent)
    assert weights.keys() == slices.keys()
    assert sum(weights[case] * count for case, count in slices.items()) == pytest.approx(slices.total())
    products = [weights[case] * count**exponent for case, count in slices.items()]
    assert products == pytest.approx([products[0]] * len(products))


def test_each_slice_of_a_batch_gets_the_weight_of_its_case(shards, tmp_path):
    config = train_config("tumor", shards, tmp_path / "run", loss=LossConfig(cases=1.0))
    training = set_up(config)
    expected = case_weights(training.shards, training.order, 1.0)
    cases = training.shards.cases(training.order.batch(0))
    assert next(training.questions(range(1))).weights.tolist() == pytest.approx([expected[case] for case in cases])


def test_losses_count_by_the_weights(shards, tmp_path):
    """A slice of weight 2 counts as a slice that is there twice: both losses are sums over slices."""
    training = set_up(train_config("tumor", shards, tmp_path / "none"))
    batch = next(training.questions(range(1)))
    config = training.config

    def loss(weights):
        return train_step(
            training.accelerator, training.model, training.optimizer, replace(batch, weights=weights), 0.0, 1.0, config
        )

    count = len(batch.weights)
    single = torch.stack([loss(torch.eye(count)[number]) for number in range(count)])
    weights = torch.arange(1.0, count + 1)
    torch.testing.assert_close(loss(weights), (weights[:, None] * single).sum(0))
