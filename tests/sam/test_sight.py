import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rounding import assert_close_to_rounding, roundings

from kitsam.sam.boxes import cells_inside
from kitsam.sam.decoder import random_decoder
from kitsam.sam.encoder import EMBEDDING_CHANNELS
from kitsam.sam.sight import cells_of, places_of, sights_around

GRID = 20


@st.composite
def some_boxes(draw):
    """(P, 4) float32 in cells, on the grid and not empty."""
    edges = st.floats(0, GRID - 0.5, width=32)
    found = []
    for _ in range(draw(st.integers(1, 6))):
        x, y = draw(edges), draw(edges)
        found.append([x, y, draw(st.floats(x + 0.25, GRID)), draw(st.floats(y + 0.25, GRID))])
    return np.array(found, np.float32)


@given(some_boxes(), st.floats(0, 3))
def test_a_window_holds_what_is_seen_and_that_holds_the_box(boxes, sight):
    sights = sights_around(boxes, GRID, sight)
    numbers, seen = cells_of(sights, GRID)

    assert numbers.shape == seen.shape == (len(boxes), sights.rows * sights.columns)
    assert all(len(set(row)) == len(row) and min(row) >= 0 and max(row) < GRID**2 for row in numbers.tolist())
    for box, row, mask in zip(boxes, numbers, seen):
        reach = np.maximum(sight * (box[2:] - box[:2]), 1)
        x0, y0 = np.floor(np.clip(box[:2] - reach, 0, GRID - 1))
        x1, y1 = np.ceil(np.clip(box[2:] + reach, 0, GRID))
        expected = [y * GRID + x for y in range(int(y0), int(y1)) for x in range(int(x0), int(x1))]
        assert row[mask].tolist() == expected


@given(some_boxes(), st.floats(0, 3))
def test_cells_that_are_asked_about_are_found_in_the_windows(boxes, sight):
    asked, _ = cells_inside(boxes, GRID, reach=0.25)
    sights = sights_around(boxes, GRID, sight)
    numbers, seen = cells_of(sights, GRID)

    places = places_of(torch.from_numpy(asked), sights, GRID)

    assert seen.flatten()[places].all()
    assert numbers.flatten()[places].tolist() == (asked % GRID**2).tolist()
    assert (places // numbers.shape[1]).tolist() == (asked // GRID**2).tolist()


@pytest.fixture
def decoder(device):
    return random_decoder(GRID, 4 * GRID, 0).eval().to(device)


def ask(decoder, embeddings, rows, boxes, sight, device):
    asked = torch.from_numpy(cells_inside(boxes, GRID)[0]).to(device)
    sights = None if sight is None else sights_around(boxes, GRID, sight).to(device)
    with torch.no_grad():
        return decoder(embeddings, rows.to(device), torch.from_numpy(boxes).to(device), asked, sights)


def test_who_sees_all_answers_as_without_a_limit(decoder, device):
    torch.manual_seed(0)
    embeddings = torch.randn(2, EMBEDDING_CHANNELS, GRID, GRID, device=device)
    rows, boxes = torch.tensor([0, 1, 1]), np.array([[2, 3, 9, 8], [0, 0, 20, 20], [11.5, 2, 14, 19]], np.float32)

    limited = ask(decoder, embeddings, rows, boxes, 20, device)

    whole = ask(decoder, embeddings, rows, boxes, None, device)
    assert_close_to_rounding(limited, whole, *roundings(decoder.mask_decoder, device, GRID * GRID))


def test_nothing_beyond_its_sight_changes_an_answer(decoder, device):
    torch.manual_seed(0)
    embeddings = torch.randn(1, EMBEDDING_CHANNELS, GRID, GRID, device=device)
    boxes = np.array([[8, 8, 12, 12]], np.float32)
    changed = torch.randn(1, EMBEDDING_CHANNELS, GRID, GRID, device=device)
    changed[:, :, 6:14, 6:14] = embeddings[:, :, 6:14, 6:14]
    rows = torch.tensor([0])

    assert torch.equal(
        ask(decoder, embeddings, rows, boxes, 0.5, device), ask(decoder, changed, rows, boxes, 0.5, device)
    )
    assert not torch.equal(
        ask(decoder, embeddings, rows, boxes, 1.0, device), ask(decoder, changed, rows, boxes, 1.0, device)
    )


def test_an_answer_does_not_depend_on_the_boxes_beside_it(decoder, device):
    torch.manual_seed(0)
    embeddings = torch.randn(1, EMBEDDING_CHANNELS, GRID, GRID, device=device)
    small, large = np.array([[16, 15, 18, 19]], np.float32), np.array([[1, 1, 12, 14]], np.float32)

    both = ask(decoder, embeddings, torch.tensor([0, 0]), np.concatenate([small, large]), 0.5, device)

    alone = ask(decoder, embeddings, torch.tensor([0]), small, 0.5, device)
    assert_close_to_rounding(both[:1], alone, *roundings(decoder.mask_decoder, device, GRID * GRID))
