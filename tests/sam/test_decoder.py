import pytest
import torch
from rounding import additions, assert_close_to_rounding, roundings

from kitsam.sam.boxes import cells_inside
from kitsam.sam.decoder import decoder_from, random_decoder
from kitsam.sam.encoder import EMBEDDING_CHANNELS
from kitsam.sam.masks import inside_boxes
from kitsam.system.errors import KitsamError

GRID, STRIDE = 4, 16


@pytest.fixture
def questions(device):
    torch.manual_seed(0)
    embeddings = torch.randn(3, EMBEDDING_CHANNELS, GRID, GRID)
    corners = torch.rand(5, 2, 2) * GRID
    boxes = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
    return embeddings.to(device), torch.tensor([0, 0, 1, 2, 2], device=device), boxes.to(device)


@pytest.fixture
def decoder(device):
    return random_decoder(GRID, STRIDE * GRID, 0).eval().to(device)


@pytest.mark.parametrize("stride", [STRIDE, 4])
def test_a_mixture_of_slices_and_boxes_gives_upstreams_masks_one_by_one(questions, stride, device):
    embeddings, slice_of_box, boxes = questions
    decoder = random_decoder(GRID, stride * GRID, 0).eval().to(device)
    with torch.no_grad():
        ours = decoder(embeddings, slice_of_box, boxes)
        for row, box, logits in zip(slice_of_box, boxes, ours):
            sparse, dense = decoder.prompt_encoder(points=None, boxes=stride * box[None], masks=None)
            theirs, _ = decoder.mask_decoder(
                image_embeddings=embeddings[row][None],
                image_pe=decoder.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=False,
            )
            assert_close_to_rounding(logits, theirs[0, 0], *roundings(decoder.mask_decoder, device, GRID * GRID))
    assert ours.shape == (5, 4 * GRID, 4 * GRID)


def upstreams_logits(decoder, embeddings, slice_of_box, boxes):
    """By upstream's own modules, an embedding repeated for each box."""
    sparse, dense = decoder.prompt_encoder(points=None, boxes=STRIDE * boxes, masks=None)
    part = decoder.mask_decoder
    tokens = torch.cat([part.iou_token.weight, part.mask_tokens.weight]).expand(len(boxes), -1, -1)
    source = embeddings[slice_of_box] + dense
    positions = decoder.prompt_encoder.get_dense_pe().expand_as(source)
    tokens, cells = part.transformer(source, positions, torch.cat([tokens, sparse], dim=1))
    upscaled = part.output_upscaling(cells.transpose(1, 2).reshape(source.shape))
    weights = part.output_hypernetworks_mlps[0](tokens[:, 1])
    return torch.einsum("pc,pchw->phw", weights, upscaled)


def test_gradients_are_upstreams(questions, decoder):
    embeddings, slice_of_box, boxes = questions
    decoder.train().mask_decoder.double()  # upstream's prompt encoder knows float32 only
    answers = []
    for forward in (decoder, lambda *asked: upstreams_logits(decoder, *asked)):
        decoder.zero_grad()
        logits = forward(embeddings.double(), slice_of_box, boxes)
        torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, 0.3)).backward()
        gradients = {name: weight.grad.clone() for name, weight in decoder.named_parameters() if weight.requires_grad}
        answers.append((logits.detach(), gradients))
    (ours, our_gradients), (theirs, their_gradients) = answers
    forward = additions(decoder.mask_decoder, GRID * GRID)
    backward = 2 * forward + ours.numel()  # back through the same sums, then over all logits
    assert ours.dtype == torch.float64
    assert_close_to_rounding(ours, theirs, forward, torch.float64)
    largest = max(gradient.abs().max().item() for gradient in their_gradients.values())
    for name, gradient in our_gradients.items():
        # What cancels out, as a bias before a softmax, is rounding alone.
        size = max(their_gradients[name].abs().max().item(), 1e-3 * largest)
        assert_close_to_rounding(gradient, their_gradients[name], backward, torch.float64, size)


def test_cells_that_are_asked_about_have_the_same_logits_and_gradients_and_others_none(questions, decoder):
    embeddings, slice_of_box, boxes = questions
    asked = torch.from_numpy(cells_inside(boxes.cpu().numpy(), GRID)[0]).to(boxes.device)
    is_asked = torch.zeros(5 * GRID * GRID, device=boxes.device).index_fill(0, asked, 1).view(5, GRID, GRID)
    is_asked = is_asked.repeat_interleave(4, 1).repeat_interleave(4, 2)
    assert inside_boxes(4 * boxes, 4 * GRID, 4 * GRID).le(is_asked).all() and not is_asked.all()
    weights = [weight for weight in decoder.parameters() if weight.requires_grad]
    whole = decoder(embeddings, slice_of_box, boxes) * is_asked
    part = decoder(embeddings, slice_of_box, boxes, asked)
    limits = roundings(decoder.mask_decoder, boxes.device, GRID * GRID)
    assert_close_to_rounding(part, whole, *limits)
    assert not part[is_asked == 0].any()
    for ours, theirs in zip(torch.autograd.grad(part.sum(), weights), torch.autograd.grad(whole.sum(), weights)):
        assert_close_to_rounding(ours, theirs, *limits)


def test_positions_follow_the_weights(questions, device):
    first, second = (random_decoder(GRID, STRIDE * GRID, seed).eval().to(device) for seed in (1, 2))
    with torch.no_grad():
        first(*questions)
        first.load_state_dict(second.state_dict())
        assert torch.equal(first(*questions), second(*questions))


def test_every_weight_that_trains_gets_a_gradient(questions, decoder):
    decoder.train()(*questions).square().mean().backward()
    trained = {name: weight for name, weight in decoder.named_parameters() if weight.requires_grad}
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in trained.values())
    assert all(name.startswith("mask_decoder.") for name in trained)
    assert sum(weight.numel() for weight in trained.values()) > 3_500_000


def test_float16_embeddings_as_stored_are_taken(questions, decoder):
    embeddings, slice_of_box, boxes = questions
    with torch.no_grad():
        exact = decoder(embeddings, slice_of_box, boxes)
        stored = decoder(embeddings.half(), slice_of_box, boxes)
    assert stored.dtype == torch.float32
    # Only the embeddings are rounded, once; what a sum makes of its terms' roundings is no larger.
    assert_close_to_rounding(stored, exact, operations=1, precision=torch.float16)


def test_new_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = random_decoder(GRID, STRIDE * GRID, 7).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = (
        random_decoder(GRID, STRIDE * GRID, 7).state_dict(),
        random_decoder(GRID, STRIDE * GRID, 8).state_dict(),
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["mask_decoder.mask_tokens.weight"], other["mask_decoder.mask_tokens.weight"])


def test_the_positional_matrix_travels_with_the_weights(questions, device):
    trained = random_decoder(GRID, STRIDE * GRID, 3).eval().to(device)
    loaded = decoder_from(trained.state_dict(), GRID, STRIDE * GRID, "a run").eval().to(device)
    with torch.no_grad():
        assert torch.equal(trained(*questions), loaded(*questions))


def test_other_weights_are_refused_by_name():
    with pytest.raises(KitsamError, match="some/file: not the weights of a SAM mask decoder"):
        decoder_from({"mask_decoder.iou_token.weight": torch.zeros(1, 256)}, GRID, STRIDE * GRID, "some/file")
