"""The rule, with a module whose speed is known; then an encoder and a decoder, compiled, give what they gave before."""

import pytest
import torch
from rounding import additions, assert_close_to_rounding

from kitsam.sam.decoder import random_decoder
from kitsam.sam.encoder import Encoder
from kitsam.sam.vit import encode
from kitsam.system import compiling
from kitsam.system.compiling import compile_where_it_pays
from kitsam.system.errors import OptionError

CPU, GPU = torch.device("cpu"), torch.device("cuda")
MANY = 10**9  # batches, enough to be worth a try


@pytest.fixture
def measured(monkeypatch):
    """A module, and a function that measures it as fast as it is told, on whatever device."""
    module = torch.nn.Identity()
    module.is_compiled = False
    seconds = {False: 0.02, True: 0.01}
    asked = []

    def seconds_per_batch(batch, device):
        asked.append(module.is_compiled)
        return seconds[module.is_compiled]

    monkeypatch.setattr(compiling, "seconds_per_batch", seconds_per_batch)
    return module, seconds, asked


def choose(module, choice, device, batches, batch=lambda: None):
    compile_where_it_pays(module, choice, device, batch, batches)
    return module.is_compiled


def test_it_is_compiled_where_that_is_faster(measured):
    module, seconds, _ = measured
    assert choose(module, "auto", GPU, MANY)
    seconds[True] = 0.03
    assert not choose(module, "auto", GPU, MANY)


def test_little_work_is_not_worth_compiling_and_none_is_not_measured(measured):
    module, _, asked = measured
    assert not choose(module, "auto", GPU, 100)
    assert asked == [False]
    assert not choose(module, "yes", GPU, 0)
    assert asked == [False]


def test_a_cpu_measures_nothing_unless_told_to_compile(measured):
    module, _, asked = measured
    assert not choose(module, "auto", CPU, MANY)
    assert not choose(module, "no", GPU, MANY)
    assert choose(module, "yes", CPU, 1)
    assert asked == []


def test_where_torch_cannot_compile_the_work_goes_on(measured, capsys):
    module, *_ = measured

    def batch():
        if module.is_compiled:
            raise torch._dynamo.exc.BackendCompilerFailed(
                "inductor", RuntimeError("no compiler found\n\nlong story"), None
            )

    assert not choose(module, "auto", GPU, MANY, batch)
    assert "no compiler found" in capsys.readouterr().err
    with pytest.raises(OptionError, match="--compile: torch cannot compile here: no compiler found$"):
        choose(module, "yes", CPU, 1, batch)


def test_the_faster_of_two_batches_counts_and_the_first_does_not(monkeypatch):
    now, durations = [0.0], iter([20, 5, 1])
    monkeypatch.setattr(compiling.time, "perf_counter", lambda: now[0])

    def batch():
        now[0] += next(durations)

    assert compiling.seconds_per_batch(batch, CPU) == 1


@pytest.mark.slow
def test_a_compiled_encoder_gives_the_same_embeddings():
    vit, pixels = Encoder("tiny", 320).vit, torch.randn(2, 3, 320, 320)
    with torch.inference_mode():
        compiled, plain = encode(vit, pixels, use_compiled=True), encode(vit, pixels)
    assert_close_to_rounding(compiled, plain, additions(vit, 20 * 20 * len(vit.blocks)))


@pytest.mark.slow
def test_a_compiled_decoder_gives_the_same_gradients_for_any_number_of_boxes():
    decoder = random_decoder(4, 16 * 4, 0)
    trained = [weight for weight in decoder.parameters() if weight.requires_grad]
    embeddings = torch.randn(2, 256, 4, 4)
    for rows in ([0, 1], [0, 0, 1], [1]):
        boxes = torch.tensor([[0.2, 0.3, 2.5, 3.1]]).expand(len(rows), -1)
        gradients = []
        for decoder.is_compiled in (False, True):
            logits = decoder(embeddings, torch.tensor(rows), boxes)
            gradients.append(torch.autograd.grad(logits.square().sum(), trained))
        # Back through the same sums, then over all logits.
        operations = 2 * additions(decoder.mask_decoder, 4 * 4) + logits.numel()
        largest = max(gradient.abs().max().item() for gradient in gradients[0])
        for plain, fast in zip(*gradients):
            assert_close_to_rounding(fast, plain, operations, size=max(plain.abs().max().item(), 1e-3 * largest))
