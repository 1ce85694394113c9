import threading

import numpy as np
import pytest
import torch
from rounding import rounding_of
from tiny import embed_config

from kitsam.ct.strata import STRATA
from kitsam.decoding.config import PromptConfig
from kitsam.embedding import run as embedding
from kitsam.shards.batches import batches, case_batches
from kitsam.shards.kidneys import KidneyBoxes
from kitsam.shards.manifest import read_manifest
from kitsam.shards.reader import Samples, ShardSet
from kitsam.system.errors import ShardError
from kitsam.training.questions import questioner

GLOBAL_BATCH = 120  # divides by 1, 2, 3, 5 and 8


@pytest.fixture(scope="module")
def small(shards) -> ShardSet:
    return ShardSet(shards)


def drawn(shards: ShardSet, ranks: int, workers: int, steps: range) -> list[list[str]]:
    """Keys of each global batch, put together again from what the ranks read."""

    def part(rank: int) -> list[list[str]]:
        order = shards.order({"kidney": 1, "background": 96, "tumor": 2}, GLOBAL_BATCH, 0, STRATA)
        return list(batches(shards, order, steps, keys_of, rank=rank, ranks=ranks, workers=workers))

    parts = [part(rank) for rank in range(ranks)]
    return [
        [part[i // ranks] for i in range(GLOBAL_BATCH) for part in [parts[i % ranks][n]]] for n in range(len(steps))
    ]


def keys_of(step: int, samples: Samples) -> list[str]:
    return [record.key for record in samples.records]


@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_batches_are_alike_for_any_number_of_ranks_and_workers(small, ranks, workers):
    order = small.order({"kidney": 1, "background": 96, "tumor": 2}, GLOBAL_BATCH, 0, STRATA)
    expected = [small.keys(order.batch(step)) for step in range(2, 5)]
    assert drawn(small, ranks, workers, range(2, 5)) == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_reused_buffers_hold_what_was_asked_for(small, workers):
    order = small.order("natural", 8, 0, STRATA)
    for step, samples in enumerate(batches(small, order, range(9), lambda step, samples: samples, workers=workers)):
        alone = small.read(order.batch(step))
        assert torch.equal(samples.stored, alone.stored)
        assert all(np.array_equal(*pair) for pair in zip(samples.masks, alone.masks))


def test_a_run_takes_the_memory_of_no_more_batches_than_workers_and_one(small):
    order = small.order("natural", 8, 0, STRATA)
    # All are kept, so that none lies where another was.
    kept = list(batches(small, order, range(9), lambda step, samples: samples.stored, workers=2))
    assert len({stored.data_ptr() for stored in kept}) <= 2 + 1


def test_while_a_batch_is_used_each_worker_reads_another(small):
    both_read = threading.Event()
    barrier = threading.Barrier(2, action=both_read.set)

    def prepare(step, samples):
        if step:
            barrier.wait(60)  # seconds

    stream = batches(small, small.order("natural", 8, 0, STRATA), range(3), prepare, workers=2)
    next(stream)
    assert both_read.wait(60)
    stream.close()


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_validation_cases_come_in_order_whatever_reads_them(small, workers):
    cases = small.manifest.val
    expected = [(number, z) for number, case in enumerate(cases) for z in range(case.samples)]
    found = []
    for number, samples in case_batches(small, cases, 3, lambda *batch: batch, workers):
        alone = small.validation_slices(cases[number], samples.records[0].slice, len(samples.records))
        assert torch.equal(samples.stored, alone.stored) and samples.places == alone.places
        found += [(number, record.slice) for record in samples.records]
    assert found == expected


def test_an_error_of_a_reading_thread_is_raised_and_ends_the_stream(small):
    def prepare(step, samples):
        if step == 3:
            raise ShardError("bad")
        return step

    seen = []
    with pytest.raises(ShardError, match="bad"):
        seen.extend(batches(small, small.order("natural", 4, 0, STRATA), range(9), prepare))
    assert seen == [0, 1, 2]


def test_prompts_repeat_when_a_run_goes_on(small):
    prompt = PromptConfig()
    ask = questioner(KidneyBoxes(small, prompt.merge, prompt.smallest), "tumor", prompt, 0, 0.2)

    def draw(step: int, samples: Samples) -> tuple[torch.Tensor, ...]:
        questions = ask(step, samples)
        return questions.boxes, questions.moves, questions.masks, questions.stored.clone()

    def drawn_in(steps: range, workers: int) -> list[tuple[torch.Tensor, ...]]:
        return list(batches(small, small.order("natural", 8, 0, STRATA), steps, draw, workers=workers))

    through, again = drawn_in(range(6), 2), drawn_in(range(4, 6), 1)
    assert all(torch.equal(a, b) for one, other in zip(through[4:], again) for a, b in zip(one, other))


@pytest.fixture(scope="module")
def halved(data, tmp_path_factory) -> ShardSet:
    """The same slices as `shards`, stored as int8."""
    out = tmp_path_factory.mktemp("int8") / "set"
    assert embedding.run(embed_config(data, out, storage="int8")) == 0
    return ShardSet(out)


def test_int8_holds_the_same_slices_in_half_the_bytes(small, halved):
    steps = [
        list(batches(s, s.order("natural", 8, 0, STRATA), range(3), lambda step, samples: samples, workers=0))
        for s in (small, halved)
    ]
    for whole, half in zip(*steps):
        assert [record.key for record in whole.records] == [record.key for record in half.records]
    addresses = small.order("natural", 8, 0, STRATA).batch(0)
    whole, half = small.read(addresses), halved.read(addresses)
    assert half.stored.dtype == torch.int8 and half.stored.nbytes * 2 == whole.stored.nbytes
    numbers = whole.embeddings(torch.device("cpu")).float()
    steps_of_channels = numbers.abs().amax((2, 3), keepdim=True) / 127
    error = (half.embeddings(torch.device("cpu")) - numbers).abs() / steps_of_channels
    assert error.max() <= 0.5 + rounding_of(127, operations=1)  # numbers up to 127 steps


def test_a_decoder_of_one_storage_reads_the_other(small, halved):
    assert small.manifest.signature == halved.manifest.signature
    assert read_manifest(halved.source.folder).embedding["dtype"] == "int8"
