"""SAM's two-way transformer and upscaling over upstream's modules, arranged for few tokens and many cells.

A box asks with seven tokens; an embedding has up to 4096 cells. Upstream (segment-anything, `transformer.py`) projects every cell to keys, values
or queries of each attention. Here the tokens are taken through the projection's transpose instead, 8 heads x 7 tokens of them,
and meet the cells as they are: the same products in another order, with half the arithmetic, no projected copies of the
cells to keep for the backward pass, and the positions' share computed without adding them to each box's cells. The upscaling works cell by
cell, so that its transposed convolutions are plain products and its norm is torch's own.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kitsam.sam.upstream import MaskDecoder, TwoWayTransformer

BOXES_AT_ONCE = 4  # in the upscaling on a CPU


def transform(
    transformer: TwoWayTransformer, cells: Tensor, positions: Tensor, tokens: Tensor
) -> tuple[Tensor, Tensor]:
    """cells: (P, N, C); positions: (N, C); tokens: (P, T, C). Returns tokens and cells after the last layer."""
    queries = tokens
    for layer in transformer.layers:
        queries, cells = _layer(layer, queries, cells, tokens, positions)
    seen = _tokens_look_at_cells(transformer.final_attn_token_to_image, queries + tokens, cells, positions)
    return transformer.norm_final_attn(queries + seen), cells


def _layer(
    layer: nn.Module, queries: Tensor, cells: Tensor, tokens: Tensor, positions: Tensor
) -> tuple[Tensor, Tensor]:
    if layer.skip_first_layer_pe:
        queries = _among_tokens(layer.self_attn, queries, queries)
    else:
        queries = queries + _among_tokens(layer.self_attn, queries + tokens, queries)
    queries = layer.norm1(queries)
    queries = layer.norm2(
        queries + _tokens_look_at_cells(layer.cross_attn_token_to_image, queries + tokens, cells, positions)
    )
    queries = layer.norm3(queries + layer.mlp(queries))
    told = _cells_look_at_tokens(layer.cross_attn_image_to_token, cells, positions, queries + tokens, queries)
    return queries, layer.norm4(cells + told)


def _heads(attention: nn.Module, x: Tensor) -> Tensor:
    """(P, T, H * D) -> (P, H, T, D)."""
    return x.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)


def _among_tokens(attention: nn.Module, x: Tensor, values: Tensor) -> Tensor:
    q, k, v = (_heads(attention, part) for part in (attention.q_proj(x), attention.k_proj(x), attention.v_proj(values)))
    return attention.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def _through(projection: nn.Linear, x: Tensor) -> tuple[Tensor, Tensor]:
    """X (P, H, T, D) through the transpose of a projection C -> H * D: (P, H * T, C), and its product with the bias: (P, H * T)."""
    weights = projection.weight.unflatten(0, (x.shape[1], -1))  # (H, D, C)
    bias = projection.bias.unflatten(0, (x.shape[1], -1))  # (H, D)
    back = torch.einsum("phtd,hdc->phtc", x, weights.to(x.dtype))
    return back.flatten(1, 2), torch.einsum("phtd,hd->pht", x, bias.to(x.dtype)).flatten(1, 2)


def _tokens_look_at_cells(attention: nn.Module, x: Tensor, cells: Tensor, positions: Tensor) -> Tensor:
    """x: (P, T, C) tokens that ask; keys are cells with their positions, values the cells."""
    q = _heads(attention, attention.q_proj(x))
    asked, constant = _through(attention.k_proj, q * q.shape[-1] ** -0.5)
    scores = torch.baddbmm(
        (asked @ positions.T.to(asked.dtype)).to(cells.dtype), asked.to(cells.dtype), cells.transpose(1, 2)
    )
    # The bias adds the same to all scores of a token, which changes nothing; it stays so that it has its (zero) gradient.
    weights = (scores + constant[..., None]).softmax(-1).to(cells.dtype)
    seen = (weights @ cells).unflatten(1, q.shape[1:3])  # (P, H, T, C)
    values = attention.v_proj.weight.unflatten(0, (q.shape[1], -1)).to(seen.dtype)
    answers = torch.einsum("phtc,hdc->pthd", seen, values).flatten(2) + attention.v_proj.bias
    return attention.out_proj(answers)


def _cells_look_at_tokens(attention: nn.Module, cells: Tensor, positions: Tensor, x: Tensor, values: Tensor) -> Tensor:
    """x, values: (P, T, C) tokens that are asked; returns (P, N, C)."""
    k, v = _heads(attention, attention.k_proj(x)), _heads(attention, attention.v_proj(values))
    heads, tokens, size = k.shape[1:]
    asking, constant = _through(attention.q_proj, k * size**-0.5)
    scores = torch.baddbmm(
        (positions.to(asking.dtype) @ asking.transpose(1, 2)).to(cells.dtype),
        cells,
        asking.transpose(1, 2).to(cells.dtype),
    )
    weights = (scores + constant[:, None]).unflatten(2, (heads, tokens)).softmax(-1).flatten(2)
    outward = attention.out_proj.weight.unflatten(1, (heads, size)).to(v.dtype)  # (C, H, D)
    told = torch.einsum("phtd,chd->phtc", v, outward).flatten(1, 2)  # (P, H * T, C)
    return weights.to(told.dtype) @ told + attention.out_proj.bias


def upscaled_logits(decoder: MaskDecoder, cells: Tensor, weights: Tensor, grid: int) -> Tensor:
    """cells: (P, G * G, C) after the transformer; weights: (P, C / 8) of the mask asked for. Returns (P, 4G, 4G)."""
    if cells.is_cuda:
        return _upscale(decoder, cells, weights, grid)
    # What lies between grows to seven times the cells. On a CPU fresh memory is dear, and doing it again for a few boxes is not.
    parts = zip(cells.split(BOXES_AT_ONCE), weights.split(BOXES_AT_ONCE))
    again = (
        partial(checkpoint, _upscale, decoder, use_reentrant=False, preserve_rng_state=False)
        if torch.is_grad_enabled()
        else partial(_upscale, decoder)
    )
    return torch.cat([again(*part, grid) for part in parts])


def _upscale(decoder: MaskDecoder, cells: Tensor, weights: Tensor, grid: int) -> Tensor:
    first, norm, activation, second, _ = decoder.output_upscaling
    # Every cell becomes 2 x 2, and each of these 2 x 2 again; where they lie matters only to the finished logits.
    x = activation(F.layer_norm(_fourfold(first, cells), norm.weight.shape, norm.weight, norm.bias, norm.eps))
    x = activation(_fourfold(second, x))  # (P, G * G, 4, 4, C / 8)
    logits = torch.einsum("pnabc,pc->pnab", x, weights.to(x.dtype))
    logits = logits.view(-1, grid, grid, 2, 2, 2, 2)  # row, column, then row, column in the cell, then in its quarter
    return logits.permute(0, 1, 3, 5, 2, 4, 6).reshape(-1, 4 * grid, 4 * grid)


def _fourfold(convolution: nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """A transposed convolution of 2 x 2 with stride 2 as a product: (..., C) -> (..., 4, C')."""
    weight = convolution.weight.flatten(2).permute(2, 1, 0).flatten(0, 1)  # (4 * C', C)
    return F.linear(x, weight, convolution.bias.repeat(4)).unflatten(-1, (4, -1))
