"""One optimizer step: the loss of a global batch, however it is cut across processes and parts.

Losses are normalized by the boxes of the whole batch, which are counted before anything is computed, so that neither
the number of processes nor that of parts changes what is learned. Nothing here waits for the device.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from kitsam.sam.decoder import BoxDecoder
from kitsam.sam.encoder import EMBEDDING_CHANNELS
from kitsam.shards.storage import restore
from kitsam.system.devices import to_device
from kitsam.training.config import TrainConfig
from kitsam.training.drawing import Answers, draw_answers, move
from kitsam.training.losses import box_losses
from kitsam.training.questions import Part, Questions


def train_step(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: Optimizer,
    batch: Questions,  # this process's share, on the device
    rate: float,  # of learning
    positive_weight: float,
    config: TrainConfig,
) -> Tensor:
    """Returns this process's share of the loss, the Dice loss and the cross-entropy: (3,) on the device."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    answers = draw_answers(batch, config.target, config.loss.lesion)
    counts = torch.stack([answers.positive.sum(), torch.ones_like(answers.positive).sum()])
    counts = accelerator.reduce(counts, "sum").clamp(min=1)
    parts = batch.split(config.accumulate)
    losses = torch.zeros(3, device=accelerator.device)
    for number, part in enumerate(parts, 1):
        # Processes exchange gradients once a step, with the last part's.
        with nullcontext() if number == len(parts) else accelerator.no_sync(model):
            losses += _part_losses(accelerator, model, batch, answers, part, counts, positive_weight, config)
    if config.optimizer.clip_norm:
        accelerator.clip_grad_norm_(model.parameters(), config.optimizer.clip_norm)
    optimizer.step()
    optimizer.zero_grad()
    return losses


def trial_step(accelerator: Accelerator, decoder: BoxDecoder, config: TrainConfig) -> None:
    """The device's share of a step, on blank slices, for measuring it; nothing is changed."""
    slices = config.batch_size // accelerator.num_processes
    for _ in range(config.accumulate):
        trial_pass(decoder, -(-slices // config.accumulate), accelerator.device, accelerator.autocast())


def trial_pass(decoder: BoxDecoder, slices: int, device: torch.device, autocast: AbstractContextManager) -> None:
    """Forward and backward on blank slices with two kidneys on each."""
    embeddings = torch.zeros(slices, EMBEDDING_CHANNELS, decoder.grid, decoder.grid, device=device)
    rows = torch.arange(slices, device=device).repeat(2)
    boxes = to_device(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), device).expand(len(rows), -1)
    with autocast:
        logits = decoder(embeddings, rows, boxes)
    torch.autograd.grad(logits.sum(), [weight for weight in decoder.parameters() if weight.requires_grad])


def _part_losses(
    accelerator: Accelerator,
    model: nn.Module,
    batch: Questions,
    answers: Answers,
    part: Part,
    counts: Tensor,  # (2,) boxes of the global batch: those that hold the class, all
    positive_weight: float,
    config: TrainConfig,
) -> Tensor:
    """The same (3,) for some of the slices; their gradients are added to the model's."""
    slices, boxes, cells = part
    scales = None if batch.scales is None else batch.scales[slices]
    embeddings = move(restore(batch.stored[slices], scales), batch.moves[slices])
    with accelerator.autocast():
        asked = batch.asked[cells] - boxes.start * embeddings.shape[-1] ** 2
        rows = batch.slice_of_box[boxes] - slices.start
        logits = model(embeddings, rows, answers.boxes[boxes], asked, batch.sights(boxes))
    dice, cross_entropy = box_losses(
        logits, answers.targets[boxes], answers.region[boxes], answers.positive[boxes], positive_weight
    )
    weights = batch.weights[batch.slice_of_box[boxes]]
    sums = torch.stack([(dice * weights).sum(), (cross_entropy * weights).sum()]) / counts
    loss = config.loss.dice * sums[0] + config.loss.cross_entropy * sums[1]
    # Gradients are averaged over the processes; the loss is a sum over them.
    accelerator.backward(loss * accelerator.num_processes)
    return torch.cat([loss[None], sums]).detach()
