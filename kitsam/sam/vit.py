"""The forward pass of SAM's image encoder over upstream's modules, weights and names untouched.

Answers for the cells that pad a slice to whole windows are not projected, since they are cut off; padding still takes part in attention, as it
does upstream. On a CPU the wide layers take some cells at a time, whose numbers stay in the cache: fresh memory for all of them costs as
much as a third of the products.
"""

from torch import Tensor, nn

from kitsam.sam.attention import attend, relative_terms
from kitsam.sam.upstream import ImageEncoderViT

CELLS_AT_ONCE = 512  # in the wide layers on a CPU


def encode(vit: ImageEncoderViT, pixels: Tensor) -> Tensor:
    """(B, 3, side, side) normalized -> embeddings (B, 256, G, G); equal to `vit(pixels)` but for rounding."""
    x = vit.patch_embed(pixels)
    x = x.contiguous() if vit.pos_embed is None else (x + vit.pos_embed).contiguous()
    for block in vit.blocks:
        x += _attention(block, block.norm1(x))
        _add_mlp(block, x)
    return vit.neck(x.permute(0, 3, 1, 2))


def _add_mlp(block: nn.Module, x: Tensor) -> None:
    """x: (B, H, W, C), changed in place."""
    cells = x.view(-1, x.shape[-1])
    for part in cells.split(len(cells) if x.is_cuda else CELLS_AT_ONCE):
        part += block.mlp(block.norm2(part))


def _attention(block: nn.Module, x: Tensor) -> Tensor:
    """x: (B, H, W, C)."""
    height, width = x.shape[1:3]
    layer, window = block.attn, block.window_size
    if not window:
        return layer.proj(_heads_attend(layer, layer.qkv(x)))
    answers = _heads_attend(layer, layer.qkv(_partition(x, window)))
    return layer.proj(_unpartition(answers, window, height, width))


def _heads_attend(layer: nn.Module, qkv: Tensor) -> Tensor:
    """(B, H, W, 3C) -> (B, H, W, C)."""
    size = qkv.shape[1:3]
    # (B, H, W, 3C) -> 3 x (B, heads, N, D)
    q, k, v = qkv.flatten(1, 2).unflatten(2, (3, layer.num_heads, -1)).permute(2, 0, 3, 1, 4)
    answers = attend(q, k, v, *relative_terms(q, layer.rel_pos_h, layer.rel_pos_w, size))
    return answers.transpose(1, 2).flatten(2).unflatten(1, size)


def _partition(x: Tensor, window: int) -> Tensor:
    """(B, H, W, C) -> (B * windows, window, window, C), zeros at the bottom and right up to whole windows."""
    batch, height, width, channels = x.shape
    down, across = -(-height // window), -(-width // window)
    windows = x.new_zeros((batch, down, across, window, window, channels))
    whole = windows.transpose(2, 3).view(batch, down, window, across, window, channels)
    for row in range(down):
        rows = x[:, row * window : (row + 1) * window]
        for column in range(across):
            part = rows[:, :, column * window : (column + 1) * window]
            whole[:, row, : part.shape[1], column, : part.shape[2]] = part
    return windows.flatten(0, 2)


def _unpartition(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """The reverse of `_partition`, cut to (B, height, width, C)."""
    down, across = -(-height // window), -(-width // window)
    x = windows.unflatten(0, (-1, down, across)).transpose(2, 3)
    return x.flatten(3, 4).flatten(1, 2)[:, :height, :width]
