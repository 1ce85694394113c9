"""The rule, with a module whose speed is known; then an encoder and a decoder, compiled, give what they gave before."""

import pytest
import torch

from kitsam import compiling
from kitsam.compiling import compile_where_it_pays
from kitsam.errors import OptionError

CPU, GPU = torch.device("cpu"), torch.device("cuda")
MANY = 10**9  # batches, enough to be worth a try


@pytest.fixture
def measured(monkeypatch):
    """A module, and a function that measures it as fast as it is told, on whatever device."""
    module = torch.nn.Identity()
    module.compiled = False
    seconds = {False: 0.02, True: 0.01}
    asked = []

    def seconds_of(batch, device):
        asked.append(module.compiled)
        return seconds[module.compiled]

    monkeypatch.setattr(compiling, "seconds_of", seconds_of)
    return module, seconds, asked


def choose(module, choice, device, batches):
    compile_where_it_pays(module, choice, device, lambda: None, batches)
    return module.compiled


def test_it_is_compiled_where_that_is_faster(measured):
    module, seconds, _ = measured
    assert choose(module, "auto", GPU, MANY)
    seconds[True] = 0.03
    assert not choose(module, "auto", GPU, MANY)


def test_little_work_is_not_worth_compiling(measured):
    module, _, asked = measured
    assert not choose(module, "auto", GPU, 100)
    assert asked == [False]


def test_a_cpu_measures_nothing_unless_told_to_compile(measured):
    module, _, asked = measured
    assert not choose(module, "auto", CPU, MANY)
    assert not choose(module, "no", GPU, MANY)
    assert asked == []
    assert choose(module, "yes", CPU, 1)


def test_where_torch_cannot_compile_the_work_goes_on(measured, monkeypatch, capsys):
    module, *_ = measured

    def seconds_of(batch, device):
        if module.compiled:
            raise RuntimeError("no compiler found\n\nlong story")
        return 1.0

    monkeypatch.setattr(compiling, "seconds_of", seconds_of)
    assert not choose(module, "auto", GPU, MANY)
    assert "no compiler found" in capsys.readouterr().err
    with pytest.raises(OptionError, match="--compile: torch cannot compile here: no compiler found$"):
        choose(module, "yes", CPU, 1)


def test_the_faster_of_two_batches_counts_and_the_first_does_not(monkeypatch):
    clock = iter([0, 20, 20, 25, 25, 26])
    monkeypatch.setattr(compiling.time, "perf_counter", lambda: next(clock))
    assert compiling.seconds_of(lambda: None, CPU) == 1
