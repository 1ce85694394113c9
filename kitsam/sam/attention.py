"""SAM's attention with decomposed relative positions, exact, without ever holding all scores of a global layer.

Upstream (segment-anything, `image_encoder.py`) writes the scores of all 4096 x 4096 pairs of cells and adds to each the terms of its
row and column distance, which come from the unscaled query. Here a GPU adds the terms inside flex_attention's kernel, and a CPU takes a few rows of
queries at a time, whose scores stay in its cache: measured on two cores, 0.33 s a global layer of vit_b in float32, against
0.50 s for scaled_dot_product_attention with the terms as a mask, 0.61 s with the terms folded into longer queries and keys, and 1.5 s for flex_attention
compiled for the CPU. Windows are small enough for scaled_dot_product_attention with the terms as a mask.

Tables of positions are upstream's: (2 * rows - 1, D) and (2 * columns - 1, D) for `size` = (rows, columns), N = rows * columns cells.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kitsam.system.compiling import compile_once

SCORES_AT_ONCE = 1 << 19  # on a CPU, of one head: 2 MiB, a core's own cache


def relative_terms(q: Tensor, table_h: Tensor, table_w: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Terms by row and by column of the key, (..., N, rows) and (..., N, columns), of queries (..., N, D), unscaled."""
    rows, columns = size
    # The product with a whole table, of which each query needs a stretch that begins one entry earlier from row to row.
    tables = torch.cat([table_h.flip(0), table_w.flip(0)]).to(q.dtype)
    by_distance = (q.contiguous() @ tables.T).unflatten(-2, size)
    *stacked, row, column, one = by_distance.stride()
    shape = by_distance.shape[:-1]
    terms_h = by_distance.as_strided((*shape, rows), (*stacked, row - one, column, one), rows - 1)
    terms_w = by_distance.as_strided((*shape, columns), (*stacked, row, column - one, one), 2 * rows - 1 + columns - 1)
    return terms_h.flatten(-3, -2), terms_w.flatten(-3, -2)


def attend_in_windows(
    q: Tensor, k: Tensor, v: Tensor, table_h: Tensor, table_w: Tensor, size: tuple[int, int]
) -> Tensor:
    """softmax(q k^T / sqrt(D) + terms) v, all (B, heads, N, D)."""
    terms_h, terms_w = relative_terms(q, table_h, table_w, size)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=_sum_of_terms(terms_h, terms_w))


def attend_by_rows(
    q: Tensor, k: Tensor, v: Tensor, table_h: Tensor, table_w: Tensor, size: tuple[int, int], out: Tensor
) -> None:
    """The same for one head of one slice, all (N, D), a few rows of scores at a time; `out` takes the answers."""
    at_once = max(1, SCORES_AT_ONCE // len(k))
    terms = relative_terms(q, table_h, table_w, size)
    q, keys = q * q.shape[-1] ** -0.5, k.T.contiguous()
    for part, queries, terms_h, terms_w in zip(
        out.split(at_once), q.split(at_once), *(term.split(at_once) for term in terms)
    ):
        scores = _sum_of_terms(terms_h, terms_w).addmm_(queries, keys)
        part.copy_(torch.softmax(scores, -1, out=scores) @ v)


def _sum_of_terms(terms_h: Tensor, terms_w: Tensor) -> Tensor:
    """(..., rows), (..., columns) -> (..., rows * columns)."""
    return (terms_h.unsqueeze(-1) + terms_w.unsqueeze(-2)).flatten(-2)


def attend_in_kernel(
    q: Tensor, k: Tensor, v: Tensor, table_h: Tensor, table_w: Tensor, size: tuple[int, int]
) -> Tensor:
    """The same as `attend_in_windows`, for any N."""
    from torch.nn.attention.flex_attention import flex_attention

    return compile_once(flex_attention, False)(q, k, v, score_mod=_adding(*relative_terms(q, table_h, table_w, size)))


def _adding(terms_h: Tensor, terms_w: Tensor):
    columns = terms_w.shape[-1]

    def add_terms(score, batch, head, query, key):
        return score + terms_h[batch, head, query, key // columns] + terms_w[batch, head, query, key % columns]

    return add_terms
