from types import SimpleNamespace

import pytest
import torch

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
