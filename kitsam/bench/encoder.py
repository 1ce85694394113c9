"""`kitsam bench encoder`: images a second, against segment-anything as in its README, on the same weights and input.

The stock encoder is the model's own in float32, as `SamPredictor.set_image` calls it. Weights and positions are random
(positions are zero in a new model, and would hide errors). Both encoders are bound by their matrix products: "of a
product" says how near an encoder comes to the FLOP/s of one large product on this machine.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from kitsam.bench.config import BenchEncoderConfig
from kitsam.bench.measure import (
    MIB,
    STOCK,
    Mode,
    default_precision,
    describe_compiling,
    in_fresh_process,
    kitsam_modes,
    peak_memory,
    reset_peak_memory,
    time_calls,
    write_figures,
)
from kitsam.sam.config import INPUTS
from kitsam.sam.encoder import ARCHITECTURES, VIT_PATCH, Encoder
from kitsam.sam.upstream import ImageEncoderViT
from kitsam.sam.vit import encode
from kitsam.system.compiling import kernel_compiles
from kitsam.system.console import say
from kitsam.system.processes import use_cpu

SAM_INPUT = INPUTS["vit_b"].size  # pixels a side
MATRIX = 4096, 3072, 768  # rows, columns and inner length of a product as large as the encoder's own


def run(config: BenchEncoderConfig) -> int:
    cpu = use_cpu(config.device)
    reference = in_fresh_process(run_stock, config.name, config.repeats, cpu).value
    results = {"segment-anything, fp32": reference}
    for name, mode in kitsam_modes(config.device, config.compile).items():
        results[name] = in_fresh_process(run_kitsam, config.name, config.batch_size, config.repeats, cpu, mode).value
    precision = default_precision(config.device)
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
        title=f"{config.name}, input {INPUTS['vit_b'].size}",
    )
    for name, result in results.items():
        result["ratio"] = result["images_per_second"] / reference["images_per_second"]
        result["flops_per_second"] = flops * result["images_per_second"]
        result["share_of_product"] = result["flops_per_second"] / result["product_flops_per_second"]
        table.add_row(
            name,
            f"{result['images_per_second']:.3f}",
            f"{result['ratio']:.2f}",
            f"{result['flops_per_second'] / 1e9:.0f}",
            f"{result['share_of_product']:.0%}",
            f"{result['peak_bytes'] / MIB:.0f}",
            f"{result['largest_error']:.1e}",
            f"{result['relative_error']:.1e}",
        )
    say(table)
    if config.compile:
        say(describe_compiling(results, lambda one: config.batch_size / one["images_per_second"], precision, "batches"))
    say(f"kitsam embed takes {precision} on this device; {flops / 1e9:.0f} GFLOP an image, counted without padding")
    figures = {"encoder": config.name, "chosen": precision, "flops": flops, "encoders": results}
    write_figures(config.json, "encoder", figures)
    return 0


def random_vit(name: str, seed: int = 0) -> ImageEncoderViT:
    """Upstream's encoder with random weights and random positions."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vit = Encoder(name, SAM_INPUT).vit
        for key, weight in vit.named_parameters():
            if "rel_pos" in key or "pos_embed" in key:
                weight.normal_(0, 0.2)
        return vit


def random_pixels(batch_size: int) -> Tensor:
    """(batch_size, 3, 1024, 1024) normalized."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn((batch_size, 3, SAM_INPUT, SAM_INPUT), generator=generator)


def run_stock(name: str, repeats: int, cpu: bool) -> dict[str, Any]:
    """Rate, memory and error of upstream's encoder, which takes one image at a time as the predictor does."""
    vit = random_vit(name)
    return _measure(vit.forward, vit, random_pixels(1), repeats, cpu, STOCK)


def run_kitsam(name: str, batch_size: int, repeats: int, cpu: bool, mode: Mode) -> dict[str, Any]:
    """Rate, memory and error of kitsam's encoder in one mode."""
    vit, pixels = random_vit(name), random_pixels(batch_size)
    device = torch.device("cpu" if cpu else "cuda")

    @torch.inference_mode()
    @torch.autocast(device.type, torch.bfloat16, enabled=mode.bfloat16)
    def batch() -> Tensor:
        return encode(vit.to(device), pixels.to(device), use_kernel=True)

    # As `kitsam embed` does when nothing else is said.
    forward = partial(encode, vit, use_compiled=mode.compiled, use_kernel=kernel_compiles("auto", device, batch))
    return _measure(forward, vit, pixels, repeats, cpu, mode)


@torch.inference_mode()
def _measure(
    forward: Callable[[Tensor], Tensor], vit: ImageEncoderViT, pixels: Tensor, repeats: int, cpu: bool, mode: Mode
) -> dict[str, Any]:
    """`forward`: pixels (B, 3, 1024, 1024) -> embeddings; the reference is `vit` in float32."""
    device = torch.device("cpu" if cpu else "cuda")
    vit.to(device)
    pixels = pixels.to(device)
    reset_peak_memory(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=mode.bfloat16):
        timing = time_calls(partial(forward, pixels), repeats, device)
    peak = peak_memory(device)
    expected = vit(pixels[:1]).float()
    error = timing.value[:1].float() - expected
    return {
        "images_per_second": len(pixels) / timing.seconds,
        "first_seconds": timing.first_seconds,
        "peak_bytes": peak,
        "largest_error": error.abs().max().item(),
        "relative_error": (error.norm() / expected.norm()).item(),
        "product_flops_per_second": _product_rate(device, torch.bfloat16 if mode.bfloat16 else torch.float32),
    }


def _product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of one large product of matrices."""
    rows, columns, inner = MATRIX
    left, right = (
        torch.randn(rows, inner, device=device).to(dtype),
        torch.randn(inner, columns, device=device).to(dtype),
    )
    repeats = 5 if device.type == "cpu" else 200
    return 2.0 * rows * columns * inner / time_calls(lambda: left @ right, repeats, device).seconds


def count_flops(name: str) -> float:
    """FLOP of one image: twice the multiplications of all matrix products, without the padding of windows."""
    architecture = ARCHITECTURES[name].network
    depth, width, global_layers = architecture.depth, architecture.width, len(architecture.global_layers)
    cells = (SAM_INPUT // VIT_PATCH) ** 2
    layers = depth * cells * 12 * width**2  # qkv 3, proj 1, mlp 8
    attention = 2 * cells * width * (global_layers * cells + (depth - global_layers) * 14**2)
    ends = cells * (3 * VIT_PATCH**2 * width + 256 * width + 9 * 256**2)  # patches in, neck
    return 2.0 * (layers + attention + ends)
