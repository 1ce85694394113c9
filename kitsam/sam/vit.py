"""The forward pass of SAM's image encoder over upstream's modules, weights and names untouched.

Padding that fills a slice up to whole windows takes part in attention, as upstream, but is not projected: the
projection of zeros is its bias. A CPU takes one row of windows at a time, and in a global layer one head per thread, so
that the numbers stay in its cache and in memory that the process already holds: fresh memory for all of them would cost
as much as a third of the matrix products.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kitsam.sam.attention import attend_by_rows, attend_in_kernel, attend_in_parts, attend_in_windows
from kitsam.sam.threads import in_threads
from kitsam.sam.upstream import ImageEncoderViT
from kitsam.system.compiling import compile_once

ROWS_AT_ONCE = 14  # of cells on a CPU: one row of windows


def encode(vit: ImageEncoderViT, pixels: Tensor, use_compiled: bool = False, use_kernel: bool = False) -> Tensor:
    """(B, 3, side, side) normalized -> embeddings (B, 256, G, G); equal to `vit(pixels)` up to rounding.

    `use_kernel`: of flex_attention, in global layers on a GPU.
    """
    add_to_cells, attend_to_windows = _add_to_cells, _attend_to_windows
    if use_compiled:
        # Global attention is the kernel's matter on a GPU, and gains nothing on a CPU.
        add_to_cells, attend_to_windows = compile_once(_add_to_cells, False), compile_once(_attend_to_windows, False)
    x = vit.patch_embed(pixels)
    x = x.contiguous() if vit.pos_embed is None else (x + vit.pos_embed).contiguous()
    for block in vit.blocks:
        rows = ROWS_AT_ONCE if x.device.type == "cpu" else x.shape[1]
        strips = x.split(rows, dim=1)
        if block.window_size:
            answers = (attend_to_windows(block.attn, block.norm1(strip), block.window_size) for strip in strips)
        else:
            answers = _attend_to_all(block.attn, block.norm1(x), use_kernel).split(rows, dim=1)
        for strip, answer in zip(strips, answers):
            add_to_cells(block, strip, answer)
    return vit.neck(x.permute(0, 3, 1, 2))


def with_positions_for(vit: ImageEncoderViT, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint's weights with its positions interpolated to the cells that `vit` has, as SAMed does.

    Of absolute positions (1, G, G, C) and the tables of relative ones (2G - 1, D); those of windows are alike already.
    """
    expected = vit.state_dict()
    fitting = dict(weights)
    for name, value in weights.items():
        if name not in expected or value.shape == expected[name].shape:
            continue
        size = expected[name].shape[:-1]
        if name == "pos_embed":
            resized = F.interpolate(value.permute(0, 3, 1, 2), size[1:], mode="bilinear", align_corners=False)
            fitting[name] = resized.permute(0, 2, 3, 1)
        elif name.endswith(("rel_pos_h", "rel_pos_w")):
            fitting[name] = F.interpolate(value.T[None], size, mode="linear", align_corners=False)[0].T
    return fitting


def _add_to_cells(block: nn.Module, cells: Tensor, answers: Tensor) -> None:
    """The rest of a layer, in place: cells (B, h, w, C); `answers`: of attention, of the same shape."""
    cells += block.attn.proj(answers)
    cells += block.mlp(block.norm2(cells))


def _attend_to_windows(layer: nn.Module, x: Tensor, window: int) -> Tensor:
    """Cells (B, h, w, C) -> answers (B, h, w, C), each from its window of cells."""
    batch, height, width, channels = x.shape
    q, k, v = _windows(layer, x, window)  # (B, down, across, heads, window, window, D)
    down, across = q.shape[1:3]
    q, k, v = (part.flatten(4, 5).flatten(0, 2) for part in (q, k, v))
    answers = attend_in_windows(q, k, v, layer.rel_pos_h, layer.rel_pos_w, (window, window))
    answers = answers.view(batch, down, across, layer.num_heads, window, window, -1).permute(0, 1, 4, 2, 5, 3, 6)
    return answers.reshape(batch, down * window, across * window, channels)[:, :height, :width]


def _windows(layer: nn.Module, x: Tensor, window: int) -> Tensor:
    """Cells (B, h, w, C) -> queries, keys, values (3, B, down, across, heads, window, window, D).

    Padded at the bottom and right to whole windows, `down` x `across` of them.
    """
    batch, height, width, channels = x.shape
    down, across = -(-height // window), -(-width // window)
    heads = layer.num_heads
    qkv = layer.qkv(x).unflatten(3, (3, heads, -1)).permute(3, 0, 4, 1, 2, 5)
    windows = qkv.new_empty((3, batch, down, across, heads, window, window, channels // heads))
    if height % window or width % window:
        windows.copy_(layer.qkv.bias.view(3, 1, 1, 1, heads, 1, 1, -1))
    for row in range(down):
        rows = qkv[:, :, :, row * window : (row + 1) * window]
        for column in range(across):
            part = rows[:, :, :, :, column * window : (column + 1) * window]
            windows[:, :, row, column, :, : part.shape[3], : part.shape[4]] = part
    return windows


def _attend_to_all(layer: nn.Module, x: Tensor, use_kernel: bool) -> Tensor:
    """Cells (B, H, W, C) -> answers (B, H, W, C), each from all cells of its slice."""
    size = x.shape[1:3]
    x = x.flatten(1, 2)
    on_cpu = x.device.type == "cpu"
    answers = _attend_on_cpu(layer, x, size) if on_cpu else _attend_on_gpu(layer, x, size, use_kernel)
    return answers.unflatten(1, size)


def _attend_on_gpu(layer: nn.Module, x: Tensor, size: tuple[int, int], use_kernel: bool) -> Tensor:
    """(B, N, C) -> (B, N, C)."""
    q, k, v = layer.qkv(x).unflatten(2, (3, layer.num_heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, D)
    attend = attend_in_kernel if use_kernel else attend_in_parts
    return attend(q, k, v, layer.rel_pos_h, layer.rel_pos_w, size).transpose(1, 2).flatten(2)


def _attend_on_cpu(layer: nn.Module, x: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, N, C) -> (B, N, C), one head per thread."""
    weights = layer.qkv.weight.unflatten(0, (3, layer.num_heads, -1))
    biases = layer.qkv.bias.unflatten(0, (3, layer.num_heads, -1))
    answers = torch.empty_like(x)

    def attend(cells: Tensor, answer: Tensor, head: int) -> None:
        q, k, v = F.linear(cells, weights[:, head].flatten(0, 1), biases[:, head].flatten()).chunk(3, dim=1)
        attend_by_rows(q, k, v, layer.rel_pos_h, layer.rel_pos_w, size, out=answer[:, head])

    items = zip(x, answers.unflatten(2, (layer.num_heads, -1)))
    parts = [(*item, head) for item in items for head in range(layer.num_heads)]
    in_threads(attend, parts, layer.num_heads)
    return answers
