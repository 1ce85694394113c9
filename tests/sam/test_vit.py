import pytest
import torch
from rounding import additions, assert_close_to_rounding, roundings

from kitsam.sam import attention, vit
from kitsam.sam.attention import attend_by_rows, attend_in_parts, attend_in_windows, relative_terms, score_mod
from kitsam.sam.encoder import Encoder
from kitsam.sam.vit import encode

SIZE = 5, 7  # cells
WIDTH = 8  # numbers of a query
# A score adds up the products of a query with a key and with two positions, an answer the values of all cells.
ADDITIONS = 3 * WIDTH + SIZE[0] * SIZE[1]


def random_vit(side: int):
    """Upstream's encoder of `tiny`'s size, its positions random as in a trained one (they are zero in a new one)."""
    torch.manual_seed(0)
    encoder = Encoder("tiny", side).vit.eval()
    with torch.no_grad():
        for name, weight in encoder.named_parameters():
            if "rel_pos" in name or "pos_embed" in name:
                weight.normal_(0, 0.5)
    return encoder


# 5 cells fill no window of 14, 14 fill one, 20 need four.
@pytest.mark.parametrize("side", [80, 224, 320])
@pytest.mark.parametrize("by_rows", [False, True])
def test_it_is_upstreams_encoder(side, by_rows, device, monkeypatch):
    cells = (side // 16) ** 2
    if by_rows:
        monkeypatch.setattr(attention, "SCORES_AT_ONCE", 3 * cells)
    encoder = random_vit(side).to(device)
    pixels = torch.randn(2, 3, side, side).to(device)
    with torch.inference_mode():
        ours, theirs = encode(encoder, pixels), encoder(pixels)
    assert_close_to_rounding(ours, theirs, *roundings(encoder, device, cells * len(encoder.blocks)))


@pytest.fixture
def asked():
    torch.manual_seed(0)
    rows, columns = SIZE
    q, k, v = (torch.randn(2, 3, rows * columns, WIDTH) for _ in range(3))
    return q, k, v, torch.randn(2 * rows - 1, WIDTH), torch.randn(2 * columns - 1, WIDTH)


def assert_attention(answer, asked):
    """By the terms of every pair of cells, one by one, as the paper (ViTDet) has them."""
    q, k, v, table_h, table_w = asked
    scores = (q @ k.transpose(2, 3)) * q.shape[-1] ** -0.5
    rows, columns = SIZE
    for query in range(rows * columns):
        for key in range(rows * columns):
            down, across = query // columns - key // columns, query % columns - key % columns
            position = table_h[down + rows - 1] + table_w[across + columns - 1]
            scores[:, :, query, key] += q[:, :, query] @ position
    # The exponential turns the rounding of a score into as many roundings of an answer.
    assert_close_to_rounding(answer, scores.softmax(-1) @ v, ADDITIONS, size=scores.abs().max().item())


def test_attention_in_windows_is_exact(asked):
    assert_attention(attend_in_windows(*asked, SIZE), asked)


@pytest.mark.parametrize("at_once", [1 << 20, 4 * 35, 1])
def test_attention_by_rows_is_exact_however_it_is_cut(asked, at_once, monkeypatch):
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", at_once)
    q, k, v, *tables = asked
    answers = torch.empty_like(q)
    for index in torch.cartesian_prod(torch.arange(2), torch.arange(3)).tolist():
        item, head = index
        attend_by_rows(q[item, head], k[item, head], v[item, head], *tables, SIZE, out=answers[item, head])
    assert_attention(answers, asked)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_the_kernel_of_a_gpu_adds_the_same_terms(asked):
    from torch.nn.attention.flex_attention import flex_attention

    q, k, v, *tables = asked
    answer = flex_attention(q, k, v, score_mod=score_mod(*relative_terms(q, *tables, SIZE)))
    assert_attention(answer, asked)


@pytest.mark.parametrize("at_once", [1 << 26, 2 * 3 * 4 * 35, 1])
def test_attention_in_parts_is_exact_however_it_is_cut(asked, at_once, monkeypatch):
    monkeypatch.setattr(attention, "SCORES_ON_GPU", at_once)
    assert_attention(attend_in_parts(*asked, SIZE), asked)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("use_kernel", [False, True])
def test_what_a_gpu_does_in_a_global_layer_is_upstreams_attention(use_kernel, monkeypatch):
    # The ways of a GPU, on this device, flex_attention as it computes without a compiler.
    monkeypatch.setattr(attention, "compile_once", lambda function, dynamic: function)
    layer = random_vit(224).blocks[1].attn
    x = torch.randn(2, 14, 14, layer.qkv.in_features)
    with torch.inference_mode():
        ours = layer.proj(vit._attend_on_gpu(layer, x.flatten(1, 2), (14, 14), use_kernel)).view_as(x)
        on_cpu = layer.proj(vit._attend_on_cpu(layer, x.flatten(1, 2), (14, 14))).view_as(x)
        theirs = layer(x)
    operations = additions(layer, 14 * 14)
    assert_close_to_rounding(ours, theirs, operations)
    assert_close_to_rounding(on_cpu, theirs, operations)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("use_kernel", [False, True])
def test_a_gpu_gives_the_same_embeddings(use_kernel):
    encoder = random_vit(1024)
    pixels = torch.randn(1, 3, 1024, 1024)
    with torch.inference_mode():
        here = encode(encoder, pixels)
        there = encode(encoder.cuda(), pixels.cuda(), use_kernel=use_kernel).cpu()
    assert_close_to_rounding(there, here, *roundings(encoder, torch.device("cuda")))
