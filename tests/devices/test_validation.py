import pytest
from accelerate import Accelerator
from meta_device import META, meta_device

from kitsam.decoding.runs import load_run
from kitsam.shards.kidneys import KidneyBoxes
from kitsam.shards.reader import ShardSet
from kitsam.system.processes import START_LIMIT
from kitsam.system.watch import Watch
from kitsam.training.validation import validate


@pytest.mark.parametrize("target", ["roi", "tumor"])
@pytest.mark.parametrize("workers", [0, 2])
def test_validation_waits_once(shards, runs, target, workers, monkeypatch):
    whole, decoder = ShardSet(shards), load_run(runs[target], target)
    decoder.decoder.to(META)
    kidneys = KidneyBoxes(whole, decoder.prompt.merge, decoder.prompt.smallest)
    accelerator = Accelerator(cpu=True)
    monkeypatch.setattr(Accelerator, "device", META)
    with meta_device(answer=1) as answers:
        found = validate(accelerator, decoder, kidneys, target, workers, Watch("test", START_LIMIT))
    assert found.finds and answers == [(len(whole.manifest.val), 3)]
