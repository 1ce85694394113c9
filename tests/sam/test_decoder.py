import pytest
import torch

from kitsam.errors import KitsamError
from kitsam.sam.decoder import decoder_from, random_decoder
from kitsam.sam.encoder import EMBEDDING_CHANNELS, PATCH

GRID = 4


@pytest.fixture
def questions():
    torch.manual_seed(0)
    embeddings = torch.randn(3, EMBEDDING_CHANNELS, GRID, GRID)
    corners = torch.rand(5, 2, 2) * GRID * PATCH
    boxes = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
    return embeddings, torch.tensor([0, 0, 1, 2, 2]), boxes


def test_a_mixture_of_slices_and_boxes_gives_upstreams_masks_one_by_one(questions):
    embeddings, slice_of_box, boxes = questions
    decoder = random_decoder(GRID, 0).eval()
    with torch.no_grad():
        ours = decoder(embeddings, slice_of_box, boxes)
        for row, box, logits in zip(slice_of_box, boxes, ours):
            sparse, dense = decoder.prompt_encoder(points=None, boxes=box[None], masks=None)
            theirs, _ = decoder.mask_decoder(
                image_embeddings=embeddings[row][None],
                image_pe=decoder.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=False,
            )
            assert torch.allclose(logits, theirs[0, 0], atol=1e-4)
    assert ours.shape == (5, 4 * GRID, 4 * GRID)


def test_every_weight_that_trains_gets_a_gradient(questions):
    decoder = random_decoder(GRID, 0)
    decoder(*questions).square().mean().backward()
    trained = {name: weight for name, weight in decoder.named_parameters() if weight.requires_grad}
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in trained.values())
    assert all(name.startswith("mask_decoder.") for name in trained)
    assert sum(weight.numel() for weight in trained.values()) > 3_500_000


def test_float16_embeddings_as_stored_are_taken(questions):
    embeddings, slice_of_box, boxes = questions
    decoder = random_decoder(GRID, 0).eval()
    with torch.no_grad():
        exact = decoder(embeddings, slice_of_box, boxes)
        stored = decoder(embeddings.half(), slice_of_box, boxes)
    assert stored.dtype == torch.float32 and torch.allclose(exact, stored, atol=0.05)


def test_new_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = random_decoder(GRID, 7).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = random_decoder(GRID, 7).state_dict(), random_decoder(GRID, 8).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["mask_decoder.mask_tokens.weight"], other["mask_decoder.mask_tokens.weight"])


def test_the_positional_matrix_travels_with_the_weights(questions):
    trained = random_decoder(GRID, 3).eval()
    loaded = decoder_from(trained.state_dict(), GRID, "a run").eval()
    with torch.no_grad():
        assert torch.equal(trained(*questions), loaded(*questions))


def test_other_weights_are_refused_by_name():
    with pytest.raises(KitsamError, match="some/file: not the weights of a SAM mask decoder"):
        decoder_from({"mask_decoder.iou_token.weight": torch.zeros(1, 256)}, GRID, "some/file")
