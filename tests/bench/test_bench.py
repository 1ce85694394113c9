"""The benchmarks run, compare like with like and keep their figures; how fast anything is, is not asked here."""

import json
from concurrent.futures import Future

import pytest
import torch
from rounding import additions, rounding_of
from torch.utils.flop_counter import FlopCounterMode

from kitsam.bench import decoder as bench_decoder
from kitsam.bench import encoder, measure, processes, shards, training
from kitsam.bench.config import (
    BenchDecoderConfig,
    BenchEncoderConfig,
    BenchProcessesConfig,
    BenchShardsConfig,
    BenchTrainingConfig,
)
from kitsam.bench.shard_set import make_set
from kitsam.decoding.config import PromptConfig
from kitsam.sam import threads
from kitsam.sam.decoder import random_decoder
from kitsam.sam.encoder import Encoder
from kitsam.sam.vit import encode
from kitsam.shards import verify
from kitsam.shards.config import ShardsConfig
from kitsam.shards.kidneys import KidneyBoxes
from kitsam.shards.reader import ShardSet
from kitsam.system.errors import OptionError


def test_shards_are_read_three_ways(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shards, "STOCK_WORKERS", (0, 1))
    monkeypatch.setattr(shards, "SHARD_COUNTS", (5,))
    figures = tmp_path / "figures.json"
    config = BenchShardsConfig(
        samples=40, grid=4, samples_per_shard=8, batch_size=8, target="cyst", seconds=0.1, work=tmp_path, json=figures
    )
    assert shards.run(config) == 0
    written = json.loads(figures.read_text())
    readers = written["throughput"]["readers"]
    assert set(readers) == {
        "read()",
        "WebLoader, 0 workers",
        "WebLoader, 1 workers",
        "kitsam",
        "kitsam, cyst questions",
    }
    assert all(reader["samples_per_second"] > 0 for reader in readers.values())
    assert [row["shards"] for row in written["opening"]] == [5] and written["machine"]["torch"] == torch.__version__
    assert "times WebLoader's best" in capsys.readouterr().out
    assert sorted(tmp_path.iterdir()) == [figures]


def test_the_set_that_is_made_is_a_real_one(tmp_path):
    make_set(tmp_path / "set", 30, 4, 8)
    assert verify.run(ShardsConfig(str(tmp_path / "set"))) == 0
    assert KidneyBoxes(ShardSet(tmp_path / "set"), PromptConfig.merge, PromptConfig.smallest).indexed


def test_decoders_are_compared_on_the_same_questions(tmp_path):
    figures = tmp_path / "figures.json"
    assert bench_decoder.run(BenchDecoderConfig(batch_size=2, grid=4, repeats=1, device="cpu", json=figures)) == 0
    found = json.loads(figures.read_text())["decoders"]
    decoder = random_decoder(4, 16 * 4, 0)
    boxes = torch.tensor([[0.0, 0.0, 2.5, 3.0]]).expand(2, -1)
    largest_logit = decoder(torch.randn(2, 256, 4, 4), torch.arange(2), boxes).abs().max().item()
    rounding = rounding_of(largest_logit, additions(decoder.mask_decoder, 4 * 4))
    # Products of bfloat16 numbers are added up in float32 and rounded once a layer.
    layers = sum(weight.dim() > 1 for weight in decoder.mask_decoder.parameters())
    coarse_rounding = rounding_of(largest_logit, layers, torch.bfloat16)
    assert found["kitsam, fp32"]["largest_error"] < rounding < found["kitsam, bf16"]["largest_error"] < coarse_rounding


class InThisThread:
    """Where torch's counter sees what is done."""

    def submit(self, function, *arguments) -> Future:
        done = Future()
        done.set_result(function(*arguments))
        return done


def test_the_flops_of_an_image_are_counted_as_torch_counts_them(monkeypatch):
    monkeypatch.setattr(threads, "_pool", lambda number: InThisThread())
    vit = Encoder("vit_b", 1024).vit.to("meta")
    in_place = {torch.ops.aten.addmm_: lambda bias, a, b, out_shape=None, **_: 2 * a[0] * a[1] * b[1]}
    with FlopCounterMode(display=False, custom_mapping=in_place) as counted, torch.inference_mode():
        encode(vit, torch.empty(1, 3, 1024, 1024, device="meta"))
    # Ours leaves out padding and positions.
    assert 0.85 * counted.get_total_flops() < encoder.count_flops("vit_b") < counted.get_total_flops()


def test_the_flops_of_tiny_vit_are_counted_as_torch_counts_them(monkeypatch):
    monkeypatch.setattr(threads, "_pool", lambda number: InThisThread())
    network = Encoder("lite_medsam", 256).vit
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    windows = {attention: lambda q, k, v, *_, **__: 4 * q[0] * q[1] * q[2] * k[2] * q[3]}
    with FlopCounterMode(display=False, custom_mapping=windows) as counted, torch.inference_mode():
        network(torch.rand(1, 3, 256, 256))
    # Ours leaves out padding, and the rows that depthwise convolutions look at beside their own.
    assert 0.85 * counted.get_total_flops() < encoder.count_flops("lite_medsam") < counted.get_total_flops()


def test_without_lite_medsam_s_package_the_way_to_it_is_said(monkeypatch):
    monkeypatch.setattr(encoder, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match="--name: .* pip install 'kitsam\\[bench\\]'"):
        encoder.run(BenchEncoderConfig("lite_medsam"))


def test_it_is_said_from_when_on_compiling_pays():
    found = {
        "kitsam, fp32": {"s": 3.0, "first_seconds": 5.0},
        "kitsam, fp32, compiled": {"s": 2.0, "first_seconds": 64.0},
    }
    assert (
        measure.describe_compiling(found, lambda one: one["s"], "fp32", "steps")
        == "Compiling takes 60 s and pays from 60 steps"
    )
    found["kitsam, fp32"] = {"s": 2.0, "first_seconds": 4.0}
    assert (
        measure.describe_compiling(found, lambda one: one["s"], "fp32", "steps")
        == "Compiling takes 60 s and saves nothing"
    )


def hold(size: int) -> int:
    return len(bytearray(size).replace(b"\0", b"\1"))


def test_memory_is_measured_above_what_the_process_began_with():
    size = 200 * measure.MIB
    assert size < measure.in_fresh_process(hold, size).peak < 3 * size


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_encoder_is_measured_on_a_gpu():
    found = encoder.run_kitsam("vit_b", 2, 1, False, measure.Mode(bfloat16=True, compiled=False))
    assert found["images_per_second"] > 1 and found["relative_error"] < 0.02


def test_processes_are_timed_step_by_step(tmp_path, capsys):
    figures = tmp_path / "figures.json"
    config = BenchProcessesConfig(grid=4, batch_size=4, steps=2, device="cpu", work=tmp_path, json=figures)
    assert processes.run(config) == 0
    found = json.loads(figures.read_text())["processes"]
    assert list(found) == ["1", "2"]
    for one in found.values():
        waits = [one[f"waiting_for_{what}"] for what in ("data", "others", "gradients")]
        assert one["seconds_per_step"] > 0 and all(0 <= wait < 1 for wait in waits) and sum(waits) < 1
    assert found["2"]["waiting_for_gradients"] > found["1"]["waiting_for_gradients"] == 0
    assert sorted(tmp_path.iterdir()) == [figures]


def test_a_training_step_is_timed_part_by_part(tmp_path):
    figures = tmp_path / "figures.json"
    config = BenchTrainingConfig(grid=4, batch_size=4, steps=2, processes=2, device="cpu", work=tmp_path, json=figures)
    assert training.run(config) == 0
    found = json.loads(figures.read_text())
    parts = found["parts"]
    assert list(parts) == ["data", "copy", "others", "forward", "backward", "gradients", "optimizer"]
    assert all(seconds > 0 for seconds in parts.values()) and found["seconds_per_step"] > 0
    assert 0 <= found["waiting_for_data"] < 1
    assert sorted(tmp_path.iterdir()) == [figures]


def test_a_batch_must_be_shared_evenly_by_the_processes(tmp_path):
    with pytest.raises(OptionError, match="--processes: 8 slices .* by 3 processes"):
        processes.run(BenchProcessesConfig(processes=(1, 3), work=tmp_path))
    with pytest.raises(OptionError, match="--processes: 8 slices .* by 3 processes"):
        training.run(BenchTrainingConfig(processes=3, work=tmp_path))
