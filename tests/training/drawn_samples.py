"""Samples with masks drawn by hand, and the boxes around their kidneys."""

import numpy as np
import torch

from kitsam.decoding.config import PromptConfig
from kitsam.shards.boxes import kidney_boxes
from kitsam.shards.reader import Samples, in_squares
from kitsam.shards.sample import SampleRecord
from kitsam.training.drawing import Answers, draw_answers
from kitsam.training.questions import Questions, draw_questions

PLAIN = ((1, 0, 0), (0, 1, 0))


def samples(*masks: np.ndarray, grid: int = 4, pixel: tuple[float, float] = (1.0, 1.0)) -> Samples:
    """`pixel`: mm a row and a column."""
    records = tuple(
        SampleRecord("case_00000", z, 0, "tumor", (0, 0, 0, 0), mask.shape, (3.0, *pixel), PLAIN)
        for z, mask in enumerate(masks)
    )
    return Samples(
        records, torch.zeros(len(masks), 256, grid, grid, dtype=torch.float16), None, in_squares(masks), masks, ()
    )


def ask(
    samples: Samples, target: str, prompt: PromptConfig, step: int = 0, shift: float = 0.0, lesion_weight: float = 1.0
) -> tuple[Questions, Answers]:
    kidneys = [
        np.array(kidney_boxes(mask, record.pixel_of(mask), prompt.merge, prompt.smallest), np.float32).reshape(-1, 4)
        for record, mask in zip(samples.records, samples.masks)
    ]
    questions = draw_questions(samples, kidneys, target, prompt, 0, step, shift)
    return questions, draw_answers(questions, target, lesion_weight)
