import pytest
from meta_device import META, meta_device

from kitsam.decoding.runs import load_run
from kitsam.shards.reader import ShardSet
from kitsam.system.processes import START_LIMIT
from kitsam.system.watch import Watch
from kitsam.training.validation import SLICES_AT_ONCE, validate


@pytest.mark.parametrize("target", ["roi", "tumor"])
def test_validation_waits_once_a_batch(shards, runs, target):
    whole, decoder = ShardSet(shards), load_run(runs[target], target)
    decoder.decoder.to(META)
    with meta_device(answer=1) as answers:
        assert validate(decoder, whole, target, META, 0, 1, Watch("test", START_LIMIT)).finds
    assert len(answers) == sum(-(-case.samples // SLICES_AT_ONCE) for case in whole.manifest.val)
