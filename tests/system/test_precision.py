from types import SimpleNamespace

import pytest
import torch

from kitsam.system import precision
from kitsam.system.precision import faster_format
from kitsam.system.processes import use_bfloat16

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("major, takes_bfloat16", [(7, False), (8, True), (9, True)])  # T4 or V100, A100, H100
def test_a_gpu_takes_bfloat16_only_where_it_computes_with_it(major, takes_bfloat16, monkeypatch):
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(major=major))
    # Any GPU makes a tensor of bfloat16.
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda device: True)
    assert use_bfloat16("auto", GPU) is takes_bfloat16
    assert use_bfloat16("bf16", GPU) and not use_bfloat16("fp32", GPU)


def test_a_cpu_computes_in_float32_unless_told_otherwise():
    assert not use_bfloat16("auto", CPU) and use_bfloat16("bf16", CPU)


class Worker:
    """Work that takes so many seconds by the clock that it keeps, in float32 and in bfloat16."""

    def __init__(self, monkeypatch, fp32: float, bf16: float) -> None:
        self.seconds, self.now, self.calls = {False: fp32, True: bf16}, 0.0, []
        monkeypatch.setattr(precision, "has_bfloat16_instructions", lambda: True)
        monkeypatch.setattr(precision, "time", SimpleNamespace(perf_counter=self.clock, process_time=self.clock))

    def clock(self) -> float:
        return self.now

    def __call__(self, bfloat16: bool) -> None:
        self.now += self.seconds[bfloat16]
        self.calls.append(bfloat16)


@pytest.mark.parametrize("fp32, bf16, choice", [(1.31, 1.0, "bf16"), (1.15, 1.0, "fp32"), (1.0, 1.8, "fp32")])
def test_a_cpu_takes_bfloat16_where_it_is_faster_by_a_margin(fp32, bf16, choice, monkeypatch, capsys):
    work = Worker(monkeypatch, fp32, bf16)
    assert faster_format(work, 1000, CPU, "a slice") == choice
    text = " ".join(capsys.readouterr().out.split())
    assert f"{fp32:.3g} s in fp32, {bf16:.3g} s in bf16" in text and text.endswith(f"{choice} is taken")


def test_little_work_and_a_cpu_without_instructions_are_not_measured(monkeypatch, capsys):
    work = Worker(monkeypatch, 1.0, 0.1)
    assert faster_format(work, 500, CPU, "a slice") == "fp32"
    assert work.calls == [False]
    monkeypatch.setattr(precision, "has_bfloat16_instructions", lambda: False)
    assert faster_format(work, 10**6, CPU, "a slice") == "fp32"
    assert work.calls == [False] and capsys.readouterr().out == ""


def test_a_gpu_is_not_measured(monkeypatch):
    work = Worker(monkeypatch, 1.0, 10.0)
    monkeypatch.setattr(precision, "use_bfloat16", lambda choice, device: True)
    assert faster_format(work, 10**6, GPU, "a slice") == "bf16" and not work.calls
