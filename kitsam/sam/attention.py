"""SAM's attention with decomposed relative positions, exact, without holding all scores of a global layer at once.

Upstream (segment-anything, `image_encoder.py`) computes the scores of all 4096 x 4096 pairs of cells and adds the terms
of their row and column distances, which come from the unscaled query. Here a GPU adds the terms inside flex_attention's
kernel, and a CPU takes a few rows of queries at a time, whose scores stay in its cache: 0.33 s a global layer of vit_b
in float32, measured on two cores, against 0.50 s for scaled_dot_product_attention with the terms as a mask, 0.61 s with
the terms folded into longer queries and keys, and 1.5 s for flex_attention compiled for the CPU. Windows are small
enough for scaled_dot_product_attention with the terms as a mask; a GPU for which flex_attention cannot be compiled does
the same for a part of the queries at a time.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from kitsam.system.compiling import compile_once

SCORES_AT_ONCE = 1 << 19  # of one head on a CPU: 2 MiB, which a core's own cache holds
SCORES_ON_GPU = 1 << 26  # of all heads: 256 MiB in float32, of which torch may hold three copies


def attend_in_windows(
    q: Tensor,  # (B, heads, N, D)
    k: Tensor,  # (B, heads, N, D)
    v: Tensor,  # (B, heads, N, D)
    table_h: Tensor,  # (2 * rows - 1, D), upstream's `rel_pos_h`
    table_w: Tensor,  # (2 * columns - 1, D), upstream's `rel_pos_w`
    size: tuple[int, int],  # rows, columns of cells, N = rows * columns
) -> Tensor:
    """softmax(q k^T / sqrt(D) + terms) v: (B, heads, N, D)."""
    terms_h, terms_w = relative_terms(q, table_h, table_w, size)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=_sum_of_terms(terms_h, terms_w))


def relative_terms(
    q: Tensor,  # (..., N, D), unscaled
    table_h: Tensor,  # (2 * rows - 1, D)
    table_w: Tensor,  # (2 * columns - 1, D)
    size: tuple[int, int],  # rows, columns
) -> tuple[Tensor, Tensor]:
    """Terms by row and by column of the key: (..., N, rows) and (..., N, columns).

    The term of a key is the product of the query with the table's entry for the query's row minus the key's. All
    queries are multiplied with the whole table, its entries in falling order of distance, and each query then reads the
    stretch of products that it needs. With 3 rows, whose entries 0..4 are for the distances +2, +1, 0, -1, -2:

        query of row 0: keys of rows 0, 1, 2 lie at  0, -1, -2: entries 2, 3, 4
        query of row 1: keys of rows 0, 1, 2 lie at +1,  0, -1: entries 1, 2, 3
        query of row 2: keys of rows 0, 1, 2 lie at +2, +1,  0: entries 0, 1, 2

    The stretch begins at entry `rows - 1` and one entry earlier with each row: in memory, where a row of queries is
    `row` numbers long, it moves on by `row - entry`. So the terms are a strided view of the products, without a loop.
    Columns are alike; their products stand behind the `2 * rows - 1` of the rows.
    """
    rows, columns = size
    tables = torch.cat([table_h.flip(0), table_w.flip(0)]).to(q.dtype)
    products = (q.contiguous() @ tables.T).unflatten(-2, size)  # (..., rows, columns, entries of both tables)
    *batch, row, column, entry = products.stride()
    shape = products.shape[:-1]
    first_h, first_w = rows - 1, (2 * rows - 1) + (columns - 1)
    terms_h = products.as_strided((*shape, rows), (*batch, row - entry, column, entry), first_h)
    terms_w = products.as_strided((*shape, columns), (*batch, row, column - entry, entry), first_w)
    return terms_h.flatten(-3, -2), terms_w.flatten(-3, -2)


def _sum_of_terms(terms_h: Tensor, terms_w: Tensor) -> Tensor:
    """(..., rows), (..., columns) -> (..., rows * columns)."""
    return (terms_h.unsqueeze(-1) + terms_w.unsqueeze(-2)).flatten(-2)


def attend_by_rows(
    q: Tensor,  # (N, D)
    k: Tensor,  # (N, D)
    v: Tensor,  # (N, D)
    table_h: Tensor,
    table_w: Tensor,
    size: tuple[int, int],
    out: Tensor,  # (N, D), takes the result
) -> None:
    """The same for one head of one slice, a few rows of scores at a time."""
    at_once = max(1, SCORES_AT_ONCE // len(k))
    terms = relative_terms(q, table_h, table_w, size)
    q, keys = q * q.shape[-1] ** -0.5, k.T.contiguous()
    for part, queries, terms_h, terms_w in zip(
        out.split(at_once), q.split(at_once), *(term.split(at_once) for term in terms)
    ):
        scores = _sum_of_terms(terms_h, terms_w).addmm_(queries, keys)
        part.copy_(torch.softmax(scores, -1, out=scores) @ v)


def attend_in_parts(q: Tensor, k: Tensor, v: Tensor, table_h: Tensor, table_w: Tensor, size: tuple[int, int]) -> Tensor:
    """The same as `attend_in_windows`, for any N."""
    at_once = max(1, SCORES_ON_GPU // (q.shape[0] * q.shape[1] * k.shape[2]))
    terms = relative_terms(q, table_h, table_w, size)
    parts = zip(q.split(at_once, dim=2), *(term.split(at_once, dim=2) for term in terms))
    answers = [F.scaled_dot_product_attention(part, k, v, attn_mask=_sum_of_terms(h, w)) for part, h, w in parts]
    return torch.cat(answers, dim=2)


def attend_in_kernel(
    q: Tensor, k: Tensor, v: Tensor, table_h: Tensor, table_w: Tensor, size: tuple[int, int]
) -> Tensor:
    """The same, for any N, by flex_attention, which must be compiled for it."""
    from torch.nn.attention.flex_attention import flex_attention

    add_terms = score_mod(*relative_terms(q, table_h, table_w, size))
    return compile_once(flex_attention, False)(q, k, v, score_mod=add_terms)


def score_mod(terms_h: Tensor, terms_w: Tensor) -> Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]:
    """flex_attention's `score_mod` that adds terms (B, heads, N, rows) and (B, heads, N, columns)."""
    columns = terms_w.shape[-1]

    def add_terms(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return score + terms_h[batch, head, query, key // columns] + terms_w[batch, head, query, key % columns]

    return add_terms
