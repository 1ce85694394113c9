"""TinyViT once more, as its paper and MobileSAM have it: batch norms apart, images (B, C, H, W), windows one by one."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def convolution(inward: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    parts = nn.Sequential()
    parts.add_module("c", nn.Conv2d(inward, out, kernel, stride, kernel // 2, groups=groups, bias=False))
    parts.add_module("bn", nn.BatchNorm2d(out))
    return parts


class Inverted(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = convolution(width, 4 * width)
        self.conv2 = convolution(4 * width, 4 * width, 3, groups=4 * width)
        self.conv3 = convolution(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x + self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x))))))


class Downsample(nn.Module):
    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = convolution(width, out)
        self.conv2 = convolution(out, out, 3, stride, groups=out)
        self.conv3 = convolution(out, out)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads, self.side = heads, side
        self.norm, self.qkv, self.proj = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, side**2))

    def forward(self, x: Tensor) -> Tensor:  # (N, C), the cells of a window row by row
        q, k, v = self.qkv(self.norm(x)).view(len(x), self.heads, 3, -1).permute(2, 1, 0, 3)
        scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5
        places = [(row, column) for row in range(self.side) for column in range(self.side)]
        apart = [[abs(a - c) * self.side + abs(b - d) for c, d in places] for a, b in places]
        scores = scores + self.attention_biases[:, torch.tensor(apart)]
        return self.proj((scores.softmax(-1) @ v).transpose(0, 1).flatten(1))


class Transformer(nn.Module):
    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.attn = Attention(width, heads, side)
        self.local_conv = convolution(width, width, 3, groups=width)
        self.mlp = nn.Module()
        self.mlp.norm, self.mlp.fc1 = nn.LayerNorm(width), nn.Linear(width, 4 * width)
        self.mlp.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        padded = F.pad(x, (0, -width % self.side, 0, -height % self.side))
        answers = torch.empty_like(padded)
        for image, answer in zip(padded, answers):
            for top in range(0, padded.shape[2], self.side):
                for left in range(0, padded.shape[3], self.side):
                    window = slice(None), slice(top, top + self.side), slice(left, left + self.side)
                    cells = self.attn(image[window].flatten(1).T)
                    answer[window] = cells.T.reshape(answer[window].shape)
        x = self.local_conv(x + answers[:, :, :height, :width])
        cells = x.permute(0, 2, 3, 1)
        return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.mlp.norm(cells)))).permute(0, 3, 1, 2)


class ChannelNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class PlainTinyViT(nn.Module):
    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.seq = nn.Sequential(
            convolution(3, 32, kernel, stride), nn.GELU(), convolution(32, 64, kernel, stride)
        )
        stages = [
            ([Inverted(64) for _ in range(2)], Downsample(64, 128, 2)),
            ([Transformer(128, 4, 7) for _ in range(2)], Downsample(128, 160, 2)),
            ([Transformer(160, 5, 14) for _ in range(6)], Downsample(160, 320, 1)),
            ([Transformer(320, 10, 7) for _ in range(2)], None),
        ]
        self.layers = nn.ModuleList()
        for blocks, downsample in stages:
            stage = nn.Module()
            stage.blocks, stage.downsample = nn.Sequential(*blocks), downsample
            self.layers.append(stage)
        self.neck = nn.Sequential(
            nn.Conv2d(320, 256, 1, bias=False),
            ChannelNorm(256, 1e-6),
            nn.Conv2d(256, 256, 3, padding=1, bias=False),
            ChannelNorm(256, 1e-6),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed.seq(x)
        for stage in self.layers:
            x = stage.blocks(x)
            x = x if stage.downsample is None else stage.downsample(x)
        return self.neck(x)


def random_tiny_vit(kernel: int, stride: int) -> PlainTinyViT:
    """With random statistics and positions, as a trained one has them."""
    torch.manual_seed(0)
    network = PlainTinyViT(kernel, stride).eval()
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif name.endswith(("running_mean", "bias", "attention_biases")):
                value.normal_(0, 0.3)
    return network
