"""SAM's two-way transformer and upscaling over upstream's modules, arranged for few tokens and many cells.

A box has seven tokens, an embedding up to 4096 cells. Upstream (segment-anything, `transformer.py`) projects every cell
to the keys, values or queries of each attention. Here the tokens, 8 heads x 7 of them, are multiplied by the
projection's transpose instead and meet the cells as they are: the same products in another order, with half the
arithmetic, no projected copies of the cells to hold for the backward pass, and the positions' share of the scores
computed without adding positions to each box's cells. The upscaling works cell by cell, so that its transposed
convolutions are matrix products, its norm is torch's own, and cells that nobody asks about can be left out.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kitsam.sam.upstream import MaskDecoder, TwoWayTransformer

CELLS_AT_ONCE = 4 * 64 * 64  # in the upscaling on a CPU


def transform(
    transformer: TwoWayTransformer,
    cells: Tensor,  # (P, N, C)
    positions: Tensor,  # (N, C), or (P, N, C) where boxes have cells of their own
    tokens: Tensor,  # (P, T, C)
    seen: Tensor | None = None,  # (P, N) bool, the cells that tokens attend to
) -> tuple[Tensor, Tensor]:
    """Tokens (P, T, C) and cells (P, N, C) after the last layer."""
    queries = tokens
    for layer in transformer.layers:
        queries, cells = _layer(layer, queries, cells, tokens, positions, seen)
    answers = _attend_to_cells(transformer.final_attn_token_to_image, queries + tokens, cells, positions, seen)
    return transformer.norm_final_attn(queries + answers), cells


def _layer(
    layer: nn.Module, queries: Tensor, cells: Tensor, tokens: Tensor, positions: Tensor, seen: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Upstream's `TwoWayAttentionBlock`: queries (P, T, C) and cells (P, N, C) after it."""
    if layer.skip_first_layer_pe:
        queries = _attend_among_tokens(layer.self_attn, queries, queries)
    else:
        queries = queries + _attend_among_tokens(layer.self_attn, queries + tokens, queries)
    queries = layer.norm1(queries)
    answers = _attend_to_cells(layer.cross_attn_token_to_image, queries + tokens, cells, positions, seen)
    queries = layer.norm2(queries + answers)
    queries = layer.norm3(queries + layer.mlp(queries))
    answers = _attend_to_tokens(layer.cross_attn_image_to_token, cells, positions, queries + tokens, queries)
    return queries, layer.norm4(cells + answers)


def _heads(attention: nn.Module, x: Tensor) -> Tensor:
    """(P, T, H * D) -> (P, H, T, D)."""
    return x.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)


def _attend_among_tokens(attention: nn.Module, x: Tensor, values: Tensor) -> Tensor:
    """x, values: (P, T, C); returns (P, T, C)."""
    q, k, v = (_heads(attention, part) for part in (attention.q_proj(x), attention.k_proj(x), attention.v_proj(values)))
    return attention.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def _project_back(projection: nn.Linear, x: Tensor) -> tuple[Tensor, Tensor]:
    """Replace products with projected cells by products with the cells: x . (W c + b) = (W^T x) . c + x . b.

    x: (P, H, T, D), `projection`: C -> H * D. Returns W^T x, (P, H * T, C), and x . b, (P, H * T).
    """
    weights = projection.weight.unflatten(0, (x.shape[1], -1))  # (H, D, C)
    bias = projection.bias.unflatten(0, (x.shape[1], -1))  # (H, D)
    back = torch.einsum("phtd,hdc->phtc", x, weights.to(x.dtype))
    return back.flatten(1, 2), torch.einsum("phtd,hd->pht", x, bias.to(x.dtype)).flatten(1, 2)


def _attend_to_cells(attention: nn.Module, x: Tensor, cells: Tensor, positions: Tensor, seen: Tensor | None) -> Tensor:
    """x: (P, T, C), queries of the tokens; keys are the cells plus positions, values the cells. Returns (P, T, C)."""
    q = _heads(attention, attention.q_proj(x))
    queries, bias = _project_back(attention.k_proj, q * q.shape[-1] ** -0.5)
    position_scores = (queries @ positions.mT.to(queries.dtype)).to(cells.dtype)
    scores = torch.baddbmm(position_scores, queries.to(cells.dtype), cells.transpose(1, 2))
    if seen is not None:
        scores = scores.masked_fill(~seen[:, None], float("-inf"))
    # The bias adds the same to all scores of a token and changes nothing; it is there to get its gradient, zero.
    weights = (scores + bias[..., None]).softmax(-1).to(cells.dtype)
    means = (weights @ cells).unflatten(1, q.shape[1:3])  # (P, H, T, C)
    values = attention.v_proj.weight.unflatten(0, (q.shape[1], -1)).to(means.dtype)
    answers = torch.einsum("phtc,hdc->pthd", means, values).flatten(2) + attention.v_proj.bias
    return attention.out_proj(answers)


def _attend_to_tokens(attention: nn.Module, cells: Tensor, positions: Tensor, x: Tensor, values: Tensor) -> Tensor:
    """Queries are the cells plus positions; x, values: (P, T, C), keys and values of the tokens. Returns (P, N, C)."""
    k, v = _heads(attention, attention.k_proj(x)), _heads(attention, attention.v_proj(values))
    heads, tokens, size = k.shape[1:]
    keys, bias = _project_back(attention.q_proj, k * size**-0.5)
    position_scores = (positions.to(keys.dtype) @ keys.transpose(1, 2)).to(cells.dtype)
    scores = torch.baddbmm(position_scores, cells, keys.transpose(1, 2).to(cells.dtype))
    weights = (scores + bias[:, None]).unflatten(2, (heads, tokens)).softmax(-1).flatten(2)
    projection = attention.out_proj.weight.unflatten(1, (heads, size)).to(v.dtype)  # (C, H, D)
    outputs = torch.einsum("phtd,chd->phtc", v, projection).flatten(1, 2)  # (P, H * T, C)
    return weights.to(outputs.dtype) @ outputs + attention.out_proj.bias


def upscaled_logits(
    decoder: MaskDecoder,
    cells: Tensor,
    weights: Tensor,
    grid: int,
    asked: Tensor | None = None,
    places: Tensor | None = None,
) -> Tensor:
    """cells: (P, N, C) after the transformer; weights: (P, C / 8) of one mask. Returns (P, 4G, 4G).

    `asked`: (M,) numbers of the cells whose logits are wanted, in order, each once, of all P * G * G; others get 0.
    `places`: (M,) where they are among all P * N; without `asked` the cells are all G * G.
    """
    boxes, count = len(cells), grid**2
    cells = cells.flatten(0, 1)
    rows = torch.arange(len(cells), device=cells.device) if asked is None else asked
    cells = cells if asked is None else cells.index_select(0, places)
    weights = weights.index_select(0, rows // count)
    if cells.device.type != "cpu":
        values = _upscale(decoder, cells, weights)
    else:
        # Activations take seven times the memory of the cells. On a CPU fresh memory costs more than computing them
        # again in the backward pass, for some cells at a time.
        upscale = partial(_upscale, decoder)
        if torch.is_grad_enabled():
            upscale = partial(checkpoint, upscale, use_reentrant=False, preserve_rng_state=False)
        parts = zip(cells.split(CELLS_AT_ONCE), weights.split(CELLS_AT_ONCE))
        values = torch.cat([upscale(*part) for part in parts])
    if asked is not None:
        values = values.new_zeros(boxes * count, *values.shape[1:]).index_copy(0, asked, values)
    logits = values.view(
        boxes, grid, grid, 2, 2, 2, 2
    )  # row, column, then row, column in the cell, then in its quarter
    return logits.permute(0, 1, 3, 5, 2, 4, 6).reshape(boxes, 4 * grid, 4 * grid)


def _upscale(decoder: MaskDecoder, cells: Tensor, weights: Tensor) -> Tensor:
    """cells: (M, C); weights: (M, C / 8). Returns (M, 4, 4): of each quarter of a cell the logits of its quarters."""
    first, norm, activation, second, _ = decoder.output_upscaling
    x = activation(F.layer_norm(_split(first, cells), norm.weight.shape, norm.weight, norm.bias, norm.eps))
    x = activation(_split(second, x))  # (M, 4, 4, C / 8)
    return torch.einsum("nabc,nc->nab", x, weights.to(x.dtype))


def _split(convolution: nn.ConvTranspose2d, x: Tensor) -> Tensor:
    """A transposed convolution of 2 x 2 with stride 2 as a matrix product: (..., C) -> (..., 4, C')."""
    weight = convolution.weight.flatten(2).permute(2, 1, 0).flatten(0, 1)  # (4 * C', C)
    return F.linear(x, weight, convolution.bias.repeat(4)).unflatten(-1, (4, -1))
