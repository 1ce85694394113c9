"""The rule, with a module whose speed is known; then an encoder and a decoder, compiled, give what they gave before."""

import subprocess

import pytest
import torch
import torch._inductor.exc
from rounding import additions, assert_close_to_rounding

from kitsam.sam.decoder import random_decoder
from kitsam.sam.encoder import Encoder
from kitsam.sam.vit import encode
from kitsam.system import compiling
from kitsam.system.compiling import compile_where_it_pays, kernel_compiles
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
        batch()
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
    warning = "torch cannot compile here: no compiler found: going on without torch.compile"
    assert capsys.readouterr().err == f"warning: {warning}\n"
    with pytest.raises(OptionError, match="--compile: torch cannot compile here: no compiler found$"):
        choose(module, "yes", CPU, 1, batch)


OUT_OF_MEMORY = (
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 14.58 GiB of which 2.00 GiB is "
    "free. Of the allocated memory 1.00 GiB is allocated by PyTorch.\nSee the documentation"
)


@pytest.mark.parametrize("in_batch", [1, 2])
def test_where_the_memory_is_too_small_for_compiled_work_it_goes_on_without(measured, capsys, in_batch, monkeypatch):
    module, *_ = measured
    done, emptied = [], []
    monkeypatch.setattr(compiling, "seconds_per_batch", lambda batch, device: [batch(), batch()] and 0.01)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))

    def batch():
        done.append(module.is_compiled)
        if done.count(True) == in_batch:
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)

    assert not choose(module, "auto", GPU, MANY, batch)
    reason = (
        "compiled, a batch does not fit into the memory: CUDA out of memory. Tried to allocate 20.00 GiB: going on "
        "without torch.compile"
    )
    assert capsys.readouterr().err == f"warning: {reason}\n" and emptied
    module.is_compiled = False
    done.clear()
    if in_batch == 1:
        with pytest.raises(OptionError, match="--compile: compiled, a batch does not fit .* 20.00 GiB$"):
            choose(module, "yes", CPU, 1, batch)


def test_out_of_memory_without_compiling_is_not_excused(measured, monkeypatch):
    module, *_ = measured

    def batch():
        raise torch.OutOfMemoryError(OUT_OF_MEMORY)

    with pytest.raises(torch.OutOfMemoryError):
        choose(module, "auto", GPU, MANY, batch)


def no_compiler():
    raise torch._inductor.exc.InductorError(RuntimeError("Failed to find C compiler. Please specify via CC"), None)


def no_headers():
    raise subprocess.CalledProcessError(1, ["gcc", "main.c"])


@pytest.mark.parametrize("failure, words", [(no_compiler, "Failed to find C compiler"), (no_headers, "gcc")])
def test_a_kernel_that_cannot_be_compiled_is_left_out_with_one_warning(failure, words, capsys):
    assert not kernel_compiles("auto", GPU, failure)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and words in lines[0] and "going on without flex_attention" in lines[0]


def test_a_kernel_is_used_by_all_processes_or_by_none(monkeypatch, capsys):
    batches = []
    assert kernel_compiles("auto", GPU, lambda: batches.append(1)) and kernel_compiles("yes", GPU, lambda: None)
    assert batches == [1]
    monkeypatch.setattr(compiling, "gather_object", lambda mine: [*mine, "torch cannot compile here: an old GPU"])
    assert not kernel_compiles("auto", GPU, lambda: None)
    assert "an old GPU" in capsys.readouterr().err


def test_no_kernel_is_tried_on_a_cpu_or_where_nothing_may_be_compiled():
    assert not kernel_compiles("no", GPU, no_compiler) and not kernel_compiles("yes", CPU, no_compiler)


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
