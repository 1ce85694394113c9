"""`kitsam bench encoder`: images a second, against segment-anything as its README uses it, in one run on the same weights and input.

The stock way is the model's image encoder in float32, as `SamPredictor.set_image` calls it. The weights are random, the positions too, which are
zero in a new model. What bounds both is the products of matrices: the last column says how near the encoder comes to what one large product
reaches here.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from kitsam.bench.config import BenchEncoderConfig
from kitsam.bench.measure import (
    MIB,
    Way,
    chosen_precision,
    in_fresh_process,
    keep,
    our_ways,
    peak_memory,
    reset_peak_memory,
    when_compiling_pays,
)
from kitsam.sam.config import PATCH, SAM_INPUT
from kitsam.sam.encoder import ARCHITECTURES, Encoder
from kitsam.sam.vit import encode
from kitsam.system.console import say
from kitsam.system.processes import use_cpu, wait_for_device

MATRIX = 4096, 3072, 768  # of a product as large as the encoder's own


def run(config: BenchEncoderConfig) -> int:
    arguments = config.name, config.batch_size, config.repeats, use_cpu(config.device)
    reference = in_fresh_process(run_stock, *arguments).value
    found = {"segment-anything, fp32": reference}
    for name, way in our_ways(config.device, config.compile).items():
        found[name] = in_fresh_process(run_ours, *arguments, way).value
    chosen = chosen_precision(config.device)
    flops = count_flops(config.name)
    table = Table(
        "encoder",
        "images/s",
        "times",
        "GFLOP/s",
        "of a product",
        "peak MiB",
        "largest error",
        "relative error",
        title=f"{config.name}, input {SAM_INPUT}",
    )
    for name, one in found.items():
        one["ratio"] = one["images_per_second"] / reference["images_per_second"]
        one["flops_per_second"] = flops * one["images_per_second"]
        one["share_of_product"] = one["flops_per_second"] / one["product_flops_per_second"]
        table.add_row(
            name,
            f"{one['images_per_second']:.3f}",
            f"{one['ratio']:.2f}",
            f"{one['flops_per_second'] / 1e9:.0f}",
            f"{one['share_of_product']:.0%}",
            f"{one['peak_bytes'] / MIB:.0f}",
            f"{one['largest_error']:.1e}",
            f"{one['relative_error']:.1e}",
        )
    say(table)
    if config.compile:
        say(when_compiling_pays(found, lambda one: config.batch_size / one["images_per_second"], chosen, "batches"))
    say(f"kitsam embed takes {chosen} on this device; {flops / 1e9:.0f} GFLOP an image, counted without padding")
    keep(config.json, "encoder", {"encoder": config.name, "chosen": chosen, "flops": flops, "encoders": found})
    return 0


def random_vit(name: str, seed: int = 0):
    """Upstream's encoder with random weights and random positions."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vit = Encoder(name, SAM_INPUT).vit
        for key, weight in vit.named_parameters():
            if "rel_pos" in key or "pos_embed" in key:
                weight.normal_(0, 0.2)
        return vit


def random_pixels(batch_size: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn((batch_size, 3, SAM_INPUT, SAM_INPUT), generator=generator)


def run_stock(name: str, batch_size: int, repeats: int, cpu: bool) -> dict[str, Any]:
    vit = random_vit(name)
    # One image at a time, as the predictor takes them.
    return _measure(lambda pixels: vit(pixels), vit, random_pixels(1), repeats, cpu, Way(False, False))


def run_ours(name: str, batch_size: int, repeats: int, cpu: bool, way: Way) -> dict[str, Any]:
    vit = random_vit(name)
    return _measure(lambda pixels: encode(vit, pixels, way.compiled), vit, random_pixels(batch_size), repeats, cpu, way)


@torch.inference_mode()
def _measure(
    forward: Callable[[Tensor], Tensor], vit, pixels: Tensor, repeats: int, cpu: bool, way: Way
) -> dict[str, Any]:
    device = torch.device("cpu" if cpu else "cuda")
    vit.to(device)
    pixels = pixels.to(device)
    reset_peak_memory(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=way.bfloat16):
        began = time.perf_counter()
        answer = forward(pixels)
        wait_for_device(device)
        first = time.perf_counter() - began
        began = time.perf_counter()
        for _ in range(repeats):
            forward(pixels)
        wait_for_device(device)
        seconds = (time.perf_counter() - began) / repeats
    peak = peak_memory(device)
    exact = vit.to(device)(pixels[:1]).float()
    error = (answer[:1].float() - exact).abs().max().item()
    return {
        "images_per_second": len(pixels) / seconds,
        "first_seconds": first,
        "peak_bytes": peak,
        "largest_error": error,
        "relative_error": ((answer[:1].float() - exact).norm() / exact.norm()).item(),
        "product_flops_per_second": _product_rate(device, torch.bfloat16 if way.bfloat16 else torch.float32),
    }


def _product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of one large product of matrices."""
    rows, columns, inner = MATRIX
    left, right = (
        torch.randn(rows, inner, device=device).to(dtype),
        torch.randn(inner, columns, device=device).to(dtype),
    )
    times = 5 if device.type == "cpu" else 200
    left @ right
    wait_for_device(device)
    began = time.perf_counter()
    for _ in range(times):
        left @ right
    wait_for_device(device)
    return 2.0 * rows * columns * inner * times / (time.perf_counter() - began)


def count_flops(name: str) -> float:
    """Of one image: products of the layers and of attention, twice the multiplications, padding of windows not counted."""
    a = ARCHITECTURES[name]
    cells = (SAM_INPUT // PATCH) ** 2
    layers = a.depth * cells * 12 * a.width**2  # qkv 3, proj 1, mlp 8
    attention = 2 * cells * a.width * (len(a.global_layers) * cells + (a.depth - len(a.global_layers)) * 14**2)
    ends = cells * (3 * PATCH**2 * a.width + 256 * a.width + 9 * 256**2)
    return 2.0 * (layers + attention + ends)
