"""`kitsam bench decoder`: training steps of the mask decoder, against upstream's parts called as they invite to be.

The stock way repeats an image's embedding for each of its boxes, computes all four masks and takes the loss on the mask enlarged to 512 x 512. Ours is the
step of `kitsam train`: one call with an index of the slice per box, one mask, the loss at the logits' resolution. Same weights, same boxes.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from rich.table import Table
from torch import Tensor

from kitsam.bench.config import BenchDecoderConfig
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
from kitsam.sam.config import PATCH
from kitsam.sam.decoder import BoxDecoder, random_decoder
from kitsam.sam.encoder import EMBEDDING_CHANNELS
from kitsam.system.console import say
from kitsam.system.processes import use_cpu, wait_for_device
from kitsam.training.losses import box_losses

FULL_SIZE = 512  # pixels a side of a KiTS slice


def run(config: BenchDecoderConfig) -> int:
    arguments = config.batch_size, config.grid, config.repeats, use_cpu(config.device)
    found = {"segment-anything's parts": in_fresh_process(measure, _stock_step, *arguments, Way(False, False)).value}
    for name, way in our_ways(config.device, config.compile).items():
        found[name] = in_fresh_process(measure, _our_step, *arguments, way).value
    first = next(iter(found.values()))
    table = Table(
        "decoder",
        "steps/s",
        "times",
        "peak MiB",
        "of stock",
        "largest error",
        title=f"Forward and backward, {config.batch_size} slices, grid {config.grid}",
    )
    for name, one in found.items():
        one["ratio"] = one["steps_per_second"] / first["steps_per_second"]
        one["memory_ratio"] = one["peak_bytes"] / first["peak_bytes"]
        table.add_row(
            name,
            f"{one['steps_per_second']:.2f}",
            f"{one['ratio']:.2f}",
            f"{one['peak_bytes'] / MIB:.0f}",
            f"{one['memory_ratio']:.0%}",
            f"{one['largest_error']:.1e}",
        )
    say(table)
    if config.compile:
        say(
            when_compiling_pays(
                found, lambda one: 1 / one["steps_per_second"], chosen_precision(config.device), "steps"
            )
        )
    keep(config.json, "decoder", {"batch_size": config.batch_size, "grid": config.grid, "decoders": found})
    return 0


def measure(step: Callable, batch_size: int, grid: int, repeats: int, cpu: bool, way: Way) -> dict[str, Any]:
    device = torch.device("cpu" if cpu else "cuda")
    decoder = random_decoder(grid, 0).to(device)
    embeddings, boxes, targets = (tensor.to(device) for tensor in _questions(batch_size, grid))
    rows = torch.arange(batch_size, device=device)
    decoder.is_compiled = way.compiled
    reset_peak_memory(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=way.bfloat16):
        began = time.perf_counter()
        step(decoder, embeddings, rows, boxes, targets)
        wait_for_device(device)
        first = time.perf_counter() - began
        began = time.perf_counter()
        for _ in range(repeats):
            decoder.zero_grad()
            step(decoder, embeddings, rows, boxes, targets)
        wait_for_device(device)
    seconds = (time.perf_counter() - began) / repeats
    peak = peak_memory(device)
    with torch.no_grad():
        expected = stock_logits(decoder, embeddings[:2], rows[:2], boxes[:2])[:, 0]
    with torch.autocast(device.type, torch.bfloat16, enabled=way.bfloat16):
        found = decoder(embeddings[:2], rows[:2], boxes[:2]).detach()
    error = (found - expected).abs().max().item()
    return {"steps_per_second": 1 / seconds, "first_seconds": first, "peak_bytes": peak, "largest_error": error}


def _questions(batch_size: int, grid: int) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings (B, 256, G, G) float16, boxes (B, 4) in input pixels, targets (B, 4G, 4G)."""
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn((batch_size, EMBEDDING_CHANNELS, grid, grid), generator=generator).half()
    corners = torch.rand((batch_size, 2, 2), generator=generator) * grid * PATCH
    boxes = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
    targets = (torch.rand((batch_size, 4 * grid, 4 * grid), generator=generator) > 0.9).float()
    return embeddings, boxes, targets


def _our_step(decoder: BoxDecoder, embeddings: Tensor, rows: Tensor, boxes: Tensor, targets: Tensor) -> None:
    dice, cross_entropy = box_losses(
        decoder(embeddings, rows, boxes),
        targets,
        torch.ones_like(targets),
        torch.ones(len(rows), device=rows.device),
        1.0,
    )
    (dice.mean() + cross_entropy.mean()).backward()


def _stock_step(decoder: BoxDecoder, embeddings: Tensor, rows: Tensor, boxes: Tensor, targets: Tensor) -> None:
    logits = stock_logits(decoder, embeddings, rows, boxes)[:, :1]
    logits = F.interpolate(logits, (FULL_SIZE, FULL_SIZE), mode="bilinear", align_corners=False)[:, 0].float()
    full = F.interpolate(targets[:, None], (FULL_SIZE, FULL_SIZE))[:, 0]
    dice, cross_entropy = box_losses(
        logits, full, torch.ones_like(full), torch.ones(len(rows), device=rows.device), 1.0
    )
    (dice.mean() + cross_entropy.mean()).backward()


def stock_logits(decoder: BoxDecoder, embeddings: Tensor, rows: Tensor, boxes: Tensor) -> Tensor:
    """(P, 4, 4G, 4G) by upstream's modules, as `MaskDecoder.predict_masks` calls them."""
    part = decoder.mask_decoder
    sparse, dense = decoder.prompt_encoder(points=None, boxes=boxes, masks=None)
    tokens = torch.cat([part.iou_token.weight, part.mask_tokens.weight]).expand(len(boxes), -1, -1)
    source = embeddings[rows].float() + dense
    positions = decoder.prompt_encoder.get_dense_pe().repeat_interleave(len(boxes), 0)
    tokens, cells = part.transformer(source, positions, torch.cat([tokens, sparse], dim=1))
    upscaled = part.output_upscaling(cells.transpose(1, 2).reshape(source.shape))
    weights = torch.stack([head(tokens[:, 1 + index]) for index, head in enumerate(part.output_hypernetworks_mlps)], 1)
    return (weights @ upscaled.flatten(2)).unflatten(2, upscaled.shape[-2:])
