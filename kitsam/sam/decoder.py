"""SAM's mask decoder with boxes as prompts, for any mixture of slices and boxes in one call.

Upstream's `MaskDecoder.predict_masks` repeats one image's embedding for all prompts. Here an index says which slice
each box lies on, so that one call serves a whole batch, and of the four masks only the single-mask output is computed.
Weights keep upstream's names (segment-anything, `modeling/`). Only the mask decoder trains. The prompt encoder is
frozen, but stored with the weights because its positional matrix is random. The quality head and the three unused mask
heads are frozen too, since a weight without a gradient stops distributed training.
"""

import torch
from torch import Tensor, nn

from kitsam.sam.encoder import EMBEDDING_CHANNELS
from kitsam.sam.sight import Sights, cells_of, places_of
from kitsam.sam.two_way import transform, upscaled_logits
from kitsam.sam.upstream import MaskDecoder, PromptEncoder, TwoWayTransformer
from kitsam.system.compiling import compile_once
from kitsam.system.errors import KitsamError

LOGITS_PER_CELL = 4  # logits a side for one embedding cell
SINGLE_MASK = 0  # index of the output trained for an unambiguous prompt


class BoxDecoder(nn.Module):
    """Upstream's prompt encoder and mask decoder, for boxes only."""

    def __init__(self, grid: int, input_size: int) -> None:
        """`grid`: embedding cells a side; `input_size`: pixels a side of the encoder's input."""
        super().__init__()
        self.grid, self.input_size = grid, input_size
        self.sight: float | None = None  # how far around a box it sees, as `sights_around` says; None: whole slices
        self.is_compiled = False  # by torch.compile, for training
        channels = EMBEDDING_CHANNELS
        size = input_size, input_size
        self.prompt_encoder = PromptEncoder(channels, (grid, grid), size, mask_in_chans=16)
        self.mask_decoder = MaskDecoder(
            transformer_dim=channels,
            transformer=TwoWayTransformer(depth=2, embedding_dim=channels, num_heads=8, mlp_dim=2048),
            num_multimask_outputs=3,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        )
        self.register_buffer("positions", torch.empty(grid * grid, channels), persistent=False)  # (G * G, 256)
        self.register_load_state_dict_post_hook(lambda decoder, _: decoder._compute_positions())
        self._compute_positions()
        self.prompt_encoder.requires_grad_(False)
        self.mask_decoder.iou_prediction_head.requires_grad_(False)
        self.mask_decoder.output_hypernetworks_mlps[SINGLE_MASK + 1 :].requires_grad_(False)

    def forward(
        self,
        embeddings: Tensor,
        slice_of_box: Tensor,
        boxes: Tensor,
        asked: Tensor | None = None,
        sights: Sights | None = None,
    ) -> Tensor:
        """Logits of one mask per box.

        embeddings: (B, 256, G, G); slice_of_box: (P,) rows of `embeddings`; boxes: (P, 4) x0 y0 x1 y1 in cells, 0..G;
        `asked`: (M,) of `cells_inside`, where only the logits within the boxes are wanted: others are then 0, and
        these the same; `sights`: what is seen around each box, with `asked` alone. Returns (P, 4G, 4G) float32.
        """
        decoder = self.mask_decoder
        # Positions are sines of large arguments: in bfloat16 their error reaches 0.14.
        with torch.autocast(boxes.device.type, enabled=False):
            pixels = boxes.to(self.no_mask.dtype) * (self.input_size / self.grid)
            sparse, _ = self.prompt_encoder(points=None, boxes=pixels, masks=None)
        output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([output_tokens.expand(len(boxes), -1, -1), sparse], dim=1)
        # Each box gets its own copy of the slice's cells: the transformer updates them by the box.
        on_slices = embeddings.flatten(2).transpose(1, 2)
        positions, seen, places = self.positions, None, asked
        if sights is None:
            cells = (on_slices + self.no_mask)[slice_of_box]
        else:
            numbers, seen = cells_of(sights, self.grid)
            cells, positions = on_slices[slice_of_box[:, None], numbers] + self.no_mask, positions[numbers]
            places = places_of(asked, sights, self.grid)
        # A single box would be compiled once more: torch treats a size of 1 as a constant.
        use_compiled = self.is_compiled and torch.is_grad_enabled() and len(boxes) > 1
        run_transformer = compile_once(transform, True) if use_compiled else transform
        tokens, cells = run_transformer(decoder.transformer, cells, positions, tokens, seen)
        mask_token = tokens[:, 1 + SINGLE_MASK]  # the first token belongs to the quality head
        weights = decoder.output_hypernetworks_mlps[SINGLE_MASK](mask_token)
        logits = upscaled_logits(decoder, cells, weights, self.grid, asked, places)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    @property
    def no_mask(self) -> Tensor:
        """(1, 256): what SAM adds to every cell when the prompt has no mask."""
        return self.prompt_encoder.no_mask_embed.weight

    def _compute_positions(self) -> None:
        """Again after loading weights: positions come from a random matrix among them."""
        self.positions.copy_(self.prompt_encoder.get_dense_pe()[0].flatten(1).T)


def random_decoder(grid: int, input_size: int, seed: int) -> BoxDecoder:
    """A decoder with random weights that depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BoxDecoder(grid, input_size)


def decoder_from(state: dict[str, Tensor], grid: int, input_size: int, source: str) -> BoxDecoder:
    """A decoder with the weights of a SAM checkpoint or of a trained run.

    Raises `KitsamError` naming `source` when `state` does not hold them.
    """
    decoder = BoxDecoder(grid, input_size)
    weights = {key: value for key, value in state.items() if key.startswith(("mask_decoder.", "prompt_encoder."))}
    try:
        decoder.load_state_dict(weights)
    except RuntimeError as error:
        raise KitsamError(f"{source}: not the weights of a SAM mask decoder") from error
    return decoder
