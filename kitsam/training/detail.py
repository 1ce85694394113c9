"""Training of the network that looks at the CT itself (`decoding/detail.py`), by itself and in seconds.

It sees pixels of true kidneys with their masses on the slices and views that the decoder's batches name first. All
cases count alike, however many slices they have, and within a case all pixels.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kitsam.ct.labels import KIDNEY, Target, target_mask
from kitsam.decoding.detail import DetailNet, DetailNets, measure
from kitsam.shards.order import SampleAddress, SampleOrder
from kitsam.shards.reader import ShardSet
from kitsam.system.seeds import derive, generator

MOST_SLICES = 1000  # 50 s of a core for their measures
PIXELS = 1000  # of each slice at most
NETS = 3
STEPS = 1000
BATCH = 2048  # pixels a step
RATE, DECAY = 3e-3, 0.05  # AdamW; the rate falls to 0 by a cosine


class Pixels(NamedTuple):
    """What the networks learn from."""

    measures: Tensor  # (N, MEASURES)
    targets: Tensor  # (N,) float32, 1 where the class is
    weights: Tensor  # (N,) how often each is drawn


def train_detail(shards: ShardSet, order: SampleOrder, target: Target, seed: int) -> DetailNets:
    """Raises `ShardError` where a slice's picture is damaged."""
    with torch.random.fork_rng(devices=()):
        pixels = _draw_pixels(shards, _first_slices(order), target, seed)
        return DetailNets(_train(pixels, derive(seed, "detail", target, number)) for number in range(NETS))


def _first_slices(order: SampleOrder) -> list[SampleAddress]:
    """Each once, in the order of the decoder's batches."""
    total = sum(sum(stratum.samples) for stratum in order.strata.values())
    found: dict[SampleAddress, None] = {}
    step = 0
    # Where a quota shows a few slices again and again, the others come late.
    while len(found) < min(total, MOST_SLICES) and step * order.batch_size < 4 * total:
        found.update(dict.fromkeys(order.batch(step)))
        step += 1
    return list(found)[:MOST_SLICES]


def _draw_pixels(shards: ShardSet, addresses: list[SampleAddress], target: Target, seed: int) -> Pixels:
    measures, targets, shares, cases = [], [], [], []
    for labels, picture in shards.pictures(addresses):
        roi = labels.mask >= KIDNEY
        if not roi.any():
            continue
        found = measure(torch.tensor(picture), torch.from_numpy(roi), math.sqrt(math.prod(labels.record.pixel_of(roi))))
        chosen = generator(seed, "detail", target, labels.record.key).permutation(len(found))[:PIXELS]
        measures.append(found[torch.from_numpy(chosen)])
        targets.append(torch.from_numpy(target_mask(labels.mask, target)[roi][chosen]).float())
        shares.append(torch.full((len(chosen),), len(found) / len(chosen)))
        cases += [labels.record.case] * len(chosen)
    weights = torch.cat(shares)
    _, case_of = np.unique(cases, return_inverse=True)
    case_of = torch.from_numpy(case_of)
    weights /= torch.zeros(int(case_of.max()) + 1).index_add_(0, case_of, weights)[case_of]
    return Pixels(torch.cat(measures), torch.cat(targets), weights)


def _train(pixels: Pixels, seed: int) -> DetailNet:
    torch.manual_seed(seed)
    draws = torch.Generator().manual_seed(seed)
    net = DetailNet()
    net.mean.copy_(pixels.measures.mean(dim=0))
    net.deviation.copy_(pixels.measures.std(dim=0) + 1e-3)
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 + math.cos(math.pi * step / STEPS)) / 2
        chosen = torch.multinomial(pixels.weights, BATCH, replacement=True, generator=draws)
        loss = F.binary_cross_entropy_with_logits(net(pixels.measures[chosen]), pixels.targets[chosen])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return net.eval()
