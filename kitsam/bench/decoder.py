"""`kitsam bench decoder`: training steps of the mask decoder, against segment-anything's own modules.

The stock step does what upstream's code suggests: it repeats an image's embedding for each of its boxes, computes all
four masks and takes the loss on the mask enlarged to 512 x 512. The other is the step of `kitsam train`: one call with
the index of each box's slice, one mask, the loss at the logits' resolution. Same weights, same boxes.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from rich.table import Table
from torch import Tensor

from kitsam.bench.config import BenchDecoderConfig
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
from kitsam.sam.decoder import BoxDecoder, random_decoder
from kitsam.sam.encoder import EMBEDDING_CHANNELS
from kitsam.system.console import say
from kitsam.system.processes import use_cpu
from kitsam.training.losses import box_losses

STRIDE = INPUTS["vit_b"].stride
FULL_SIZE = 512  # pixels a side of a KiTS slice

# A forward and backward pass: decoder, embeddings, slice of each box, boxes, targets.
Step = Callable[[BoxDecoder, Tensor, Tensor, Tensor, Tensor], None]


def run(config: BenchDecoderConfig) -> int:
    arguments = config.batch_size, config.grid, config.repeats, use_cpu(config.device)
    stock = in_fresh_process(measure, _stock_step, *arguments, STOCK).value
    results = {"segment-anything's parts": stock}
    for name, mode in kitsam_modes(config.device, config.compile).items():
        results[name] = in_fresh_process(measure, _kitsam_step, *arguments, mode).value
    table = Table(
        "decoder",
        "steps/s",
        "times",
        "peak MiB",
        "of stock",
        "largest error",
        title=f"Forward and backward, {config.batch_size} slices, grid {config.grid}",
    )
    for name, result in results.items():
        result["ratio"] = result["steps_per_second"] / stock["steps_per_second"]
        result["memory_ratio"] = result["peak_bytes"] / stock["peak_bytes"]
        table.add_row(
            name,
            f"{result['steps_per_second']:.2f}",
            f"{result['ratio']:.2f}",
            f"{result['peak_bytes'] / MIB:.0f}",
            f"{result['memory_ratio']:.0%}",
            f"{result['largest_error']:.1e}",
        )
    say(table)
    if config.compile:
        precision = default_precision(config.device)
        say(describe_compiling(results, lambda result: 1 / result["steps_per_second"], precision, "steps"))
    figures = {"batch_size": config.batch_size, "grid": config.grid, "decoders": results}
    write_figures(config.json, "decoder", figures)
    return 0


def measure(step: Step, batch_size: int, grid: int, repeats: int, cpu: bool, mode: Mode) -> dict[str, Any]:
    """Rate, memory and error of a step in one mode; the reference is upstream's decoder in float32."""
    device = torch.device("cpu" if cpu else "cuda")
    decoder = random_decoder(grid, grid * STRIDE, 0).to(device)
    embeddings, boxes, targets = (tensor.to(device) for tensor in _questions(batch_size, grid))
    rows = torch.arange(batch_size, device=device)
    decoder.is_compiled = mode.compiled

    def clean_step() -> None:
        decoder.zero_grad()
        step(decoder, embeddings, rows, boxes, targets)

    reset_peak_memory(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=mode.bfloat16):
        timing = time_calls(clean_step, repeats, device)
    peak = peak_memory(device)
    with torch.no_grad():
        expected = stock_logits(decoder, embeddings[:2], rows[:2], boxes[:2])[:, 0]
    with torch.autocast(device.type, torch.bfloat16, enabled=mode.bfloat16):
        logits = decoder(embeddings[:2], rows[:2], boxes[:2]).detach()
    return {
        "steps_per_second": 1 / timing.seconds,
        "first_seconds": timing.first_seconds,
        "peak_bytes": peak,
        "largest_error": (logits - expected).abs().max().item(),
    }


def _questions(batch_size: int, grid: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random embeddings (B, 256, G, G) float16, boxes (B, 4) in cells, targets (B, 4G, 4G)."""
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn((batch_size, EMBEDDING_CHANNELS, grid, grid), generator=generator).half()
    corners = torch.rand((batch_size, 2, 2), generator=generator) * grid
    boxes = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
    targets = (torch.rand((batch_size, 4 * grid, 4 * grid), generator=generator) > 0.9).float()
    return embeddings, boxes, targets


def _kitsam_step(decoder: BoxDecoder, embeddings: Tensor, rows: Tensor, boxes: Tensor, targets: Tensor) -> None:
    _backward(decoder(embeddings, rows, boxes), targets)


def _stock_step(decoder: BoxDecoder, embeddings: Tensor, rows: Tensor, boxes: Tensor, targets: Tensor) -> None:
    logits = stock_logits(decoder, embeddings, rows, boxes)[:, :1]
    logits = F.interpolate(logits, (FULL_SIZE, FULL_SIZE), mode="bilinear", align_corners=False)[:, 0].float()
    _backward(logits, F.interpolate(targets[:, None], (FULL_SIZE, FULL_SIZE))[:, 0])


def _backward(logits: Tensor, targets: Tensor) -> None:
    """logits, targets: (P, L, L)."""
    region, positive = torch.ones_like(targets), torch.ones(len(targets), device=targets.device)
    dice, cross_entropy = box_losses(logits, targets, region, positive, 1.0)
    (dice.mean() + cross_entropy.mean()).backward()


def stock_logits(decoder: BoxDecoder, embeddings: Tensor, rows: Tensor, boxes: Tensor) -> Tensor:
    """Logits (P, 4, 4G, 4G) by upstream's modules, as `MaskDecoder.predict_masks` calls them."""
    upstream = decoder.mask_decoder
    sparse, dense = decoder.prompt_encoder(points=None, boxes=boxes * STRIDE, masks=None)
    tokens = torch.cat([upstream.iou_token.weight, upstream.mask_tokens.weight]).expand(len(boxes), -1, -1)
    source = embeddings[rows].float() + dense
    positions = decoder.prompt_encoder.get_dense_pe().repeat_interleave(len(boxes), 0)
    tokens, cells = upstream.transformer(source, positions, torch.cat([tokens, sparse], dim=1))
    upscaled = upstream.output_upscaling(cells.transpose(1, 2).reshape(source.shape))
    heads = upstream.output_hypernetworks_mlps
    weights = torch.stack([head(tokens[:, 1 + index]) for index, head in enumerate(heads)], 1)
    return (weights @ upscaled.flatten(2)).unflatten(2, upscaled.shape[-2:])
