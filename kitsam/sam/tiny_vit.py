"""TinyViT with SAM's neck: the image encoder of LiteMedSAM and of MobileSAM, for inference only.

Cells stay (B, H, W, C) throughout: a 1 x 1 convolution is a product of matrices, a depthwise one meets the layout it
is fastest in, and a window is a copy of a few rows. Batch norms are folded into the convolutions before them, and the
table of relative positions is spread over all pairs of cells once, when weights are loaded. A CPU takes one image at a
time, and each of its cores a few rows, whose hidden numbers stay in its cache. Under autocast to bfloat16 attention and
perceptrons are computed in it, and what they are added to stays float32.

Names of modules and weights are those of the TinyViT of MobileSAM (github.com/ChaoningZhang/MobileSAM, Apache-2.0).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kitsam.sam.threads import in_threads
from kitsam.system.compiling import compile_once

CHANNELS = (64, 128, 160, 320)  # of a cell, by stage
DEPTHS = (2, 2, 6, 2)  # blocks of a stage
WINDOWS = (0, 7, 14, 7)  # cells a side; the first stage has convolutions in place of attention
HALVES = (True, True, False)  # whether a stage's end halves the cells a side
HEAD_CHANNELS = 32
EXPANSION = 4  # hidden channels of a block for one of its own
ROWS = 16  # of cells that a CPU's core takes at once, but for attention, which takes a row of windows
BATCH_NORM_EPS = 1e-5
UNUSED = ("norm_head.", "head.")  # of MobileSAM's checkpoint: TinyViT's classifier


@dataclass(frozen=True)
class PatchEmbedding:
    """The two convolutions that make cells of pixels."""

    kernel: int
    stride: int  # of each


class TinyViT(nn.Module):
    """(B, 3, side, side) normalized -> embeddings (B, 256, G, G)."""

    def __init__(self, patches: PatchEmbedding, embedding_channels: int) -> None:
        super().__init__()
        half = CHANNELS[0] // 2
        shape = {"kernel_size": patches.kernel, "stride": patches.stride, "padding": patches.kernel // 2}
        self.patch_embed = nn.Module()
        self.patch_embed.seq = nn.Sequential(
            nn.Conv2d(3, half, **shape), nn.GELU(), nn.Conv2d(half, CHANNELS[0], **shape)
        )
        self.layers = nn.ModuleList(_stage(number) for number in range(len(CHANNELS)))
        self.neck = nn.Sequential(
            nn.Conv2d(CHANNELS[-1], embedding_channels, 1, bias=False),
            nn.LayerNorm(embedding_channels, eps=1e-6),
            nn.Conv2d(embedding_channels, embedding_channels, 3, padding=1, bias=False),
            nn.LayerNorm(embedding_channels, eps=1e-6),
        )

    def forward(self, pixels: Tensor, use_compiled: bool = False) -> Tensor:
        if pixels.is_cuda:
            return (compile_once(TinyViT._encode, False) if use_compiled else TinyViT._encode)(self, pixels)
        return torch.cat([self._encode(image) for image in pixels.split(1)])

    def _encode(self, pixels: Tensor) -> Tensor:
        with _in_float32(pixels):
            cells = self.patch_embed.seq(pixels.contiguous(memory_format=torch.channels_last)).permute(0, 2, 3, 1)
        for stage in self.layers:
            for block in stage.blocks:
                cells = block(cells)
            if stage.downsample is not None:
                cells = stage.downsample(cells)
        squeeze, first_norm, mix, second_norm = self.neck
        cells = first_norm(_project(squeeze, cells))
        return second_norm(_convolve(mix, cells)).permute(0, 3, 1, 2)


def folded(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint's weights as `TinyViT` has them: each batch norm is part of the convolution before it."""
    weights = {}
    for name, value in state.items():
        layer, _, kind = name.rpartition(".")
        if name.startswith(UNUSED) or ".bn." in name:
            continue
        if not layer.endswith(".c"):
            weights[name] = value
            continue
        layer = layer.removesuffix(".c")
        gain, shift, mean, variance = (
            state[f"{layer}.bn.{part}"].double() for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gain / (variance + BATCH_NORM_EPS).sqrt()
        weights[f"{layer}.{kind}"] = (value.double() * scale.view(-1, 1, 1, 1)).to(value.dtype)
        weights[f"{layer}.bias"] = (shift - mean * scale).to(value.dtype)
    return weights


def _stage(number: int) -> nn.Module:
    channels, window = CHANNELS[number], WINDOWS[number]
    stage = nn.Module()
    stage.blocks = nn.ModuleList(
        AttentionBlock(channels, window) if window else ConvolutionBlock(channels) for _ in range(DEPTHS[number])
    )
    last = number == len(CHANNELS) - 1
    stage.downsample = None if last else Merging(channels, CHANNELS[number + 1], stride=1 + HALVES[number])
    return stage


class ConvolutionBlock(nn.Module):
    """Each cell widened, mixed with its neighbors, narrowed, added to what it was: (B, H, W, C) -> the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = EXPANSION * channels
        self.conv1 = nn.Conv2d(channels, hidden, 1)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.conv3 = nn.Conv2d(hidden, channels, 1)

    def forward(self, cells: Tensor) -> Tensor:
        answers = torch.empty_like(cells)

        def compute(first: int, stop: int) -> None:
            part = answers[:, first:stop]
            hidden = _mixed(self.conv2, lambda rows: _gelu(_project(self.conv1, rows)), cells, first, stop)
            _gelu(torch.add(cells[:, first:stop], _project(self.conv3, _gelu(hidden)), out=part))

        with _in_float32(cells):
            _by_rows(compute, cells, cells.shape[1], ROWS)
        return answers


class Merging(nn.Module):
    """From one stage to the next: (B, H, W, C) -> (B, H / stride, W / stride, `out`)."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 1)
        self.conv2 = nn.Conv2d(out, out, 3, stride, 1, groups=out)
        self.conv3 = nn.Conv2d(out, out, 1)

    def forward(self, cells: Tensor) -> Tensor:
        batch, height, width = cells.shape[0], *(side // self.conv2.stride[0] for side in cells.shape[1:3])
        answers = cells.new_empty(batch, height, width, self.conv3.out_channels)

        def compute(first: int, stop: int) -> None:
            hidden = _mixed(self.conv2, lambda rows: _gelu(_project(self.conv1, rows)), cells, first, stop)
            answers[:, first:stop] = _project(self.conv3, _gelu(hidden))

        with _in_float32(cells):
            _by_rows(compute, cells, height, ROWS)
        return answers


class AttentionBlock(nn.Module):
    """Attention in windows, a depthwise convolution, a perceptron: (B, H, W, C) -> the same; changes `cells`."""

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attn = Attention(channels, window)
        self.local_conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.mlp = nn.Module()
        self.mlp.norm = nn.LayerNorm(channels)
        self.mlp.fc1 = nn.Linear(channels, EXPANSION * channels)
        self.mlp.fc2 = nn.Linear(EXPANSION * channels, channels)

    def forward(self, cells: Tensor) -> Tensor:
        answers = torch.empty_like(cells)

        def attend(first: int, stop: int) -> None:
            cells[:, first:stop] += self.attn(cells[:, first:stop])

        def compute(first: int, stop: int) -> None:
            with _in_float32(cells):
                part = _mixed(self.local_conv, lambda rows: rows, cells, first, stop)
            hidden = _gelu(self.mlp.fc1(self.mlp.norm(part)))
            torch.add(part, self.mlp.fc2(hidden), out=answers[:, first:stop])

        _by_rows(attend, cells, cells.shape[1], self.window)
        _by_rows(compute, cells, cells.shape[1], ROWS)
        return answers


class Attention(nn.Module):
    """Of cells to those of their window, (B, h, w, C) -> the same; zeros fill up windows and are attended to."""

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.window, self.heads = window, channels // HEAD_CHANNELS
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.attention_biases = nn.Parameter(torch.zeros(self.heads, window**2))  # by rows and columns apart
        self.register_buffer("terms", torch.empty(1, self.heads, window**2, window**2), persistent=False)
        self.register_load_state_dict_post_hook(lambda layer, _: layer._spread_biases())
        self._spread_biases()

    @torch.no_grad()
    def _spread_biases(self) -> None:
        """Again after loading weights: to each pair of cells what belongs to their distance."""
        row, column = (part.flatten() for part in torch.meshgrid(*2 * [torch.arange(self.window)], indexing="ij"))
        apart = (row[:, None] - row).abs() * self.window + (column[:, None] - column).abs()
        self.terms[0].copy_(self.attention_biases[:, apart])

    def forward(self, cells: Tensor) -> Tensor:
        height, width = cells.shape[1:3]
        windows = self._windows(cells)
        side, channels = windows.shape[-2:]
        qkv = self.qkv(self.norm(windows.view(-1, side * side, channels))).unflatten(2, (self.heads, 3, HEAD_CHANNELS))
        q, k, v = qkv.permute(3, 0, 2, 1, 4)  # (windows, heads, side * side, 32)
        answers = F.scaled_dot_product_attention(q, k, v, attn_mask=self.terms.to(q.dtype)).transpose(1, 2)
        rows = answers.reshape(windows.shape).transpose(2, 3).flatten(1, 2)[:, :height]  # (B, h, across, side, C)
        # The columns that fill up the last windows are projected too: to leave them out would cost a copy.
        return self.proj(rows.flatten(2, 3))[:, :, :width]

    def _windows(self, cells: Tensor) -> Tensor:
        """(B, h, w, C) -> (B, down, across, side, side, C), filled up with zeros below and at the right."""
        batch, height, width, channels = cells.shape
        side = self.window
        down, across = -(-height // side), -(-width // side)
        cells = F.pad(cells, (0, 0, 0, across * side - width, 0, down * side - height))
        return cells.view(batch, down, side, across, side, channels).transpose(2, 3).contiguous()


def _by_rows(work: Callable[[int, int], None], cells: Tensor, height: int, at_once: int) -> None:
    """`work` for all rows at once on a GPU, for `at_once` of them by each thread on a CPU."""
    if cells.is_cuda:
        work(0, height)
    else:
        in_threads(work, [(first, min(first + at_once, height)) for first in range(0, height, at_once)])


def _in_float32(cells: Tensor) -> torch.autocast:
    """Without autocast. The convolutions are a sixth of the work, but in bfloat16 they make most of its error."""
    return torch.autocast(cells.device.type, enabled=False)


def _mixed(layer: nn.Conv2d, prepare: Callable[[Tensor], Tensor], cells: Tensor, first: int, stop: int) -> Tensor:
    """Rows `first` to `stop` of what a 3 x 3 convolution makes of all prepared rows."""
    stride = layer.stride[0]
    above, below = max(first - 1, 0), stop + 1
    rows = prepare(cells[:, above * stride : below * stride])
    return _convolve(layer, rows)[:, first - above : stop - above]


def _convolve(layer: nn.Conv2d, cells: Tensor) -> Tensor:
    """(B, H, W, C) -> (B, h, w, c)."""
    return layer(cells.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def _project(layer: nn.Conv2d, cells: Tensor) -> Tensor:
    """A 1 x 1 convolution: (B, H, W, C) -> (B, H, W, c)."""
    return F.linear(cells, layer.weight.flatten(1), layer.bias)


def _gelu(cells: Tensor) -> Tensor:
    """In place."""
    return torch.ops.aten.gelu_(cells)
