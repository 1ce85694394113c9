from dataclasses import replace

import numpy as np
import pytest
import torch

from kitsam.ct.labels import CYST, KIDNEY, TUMOR
from kitsam.decoding import ask as module
from kitsam.decoding.ask import SliceBoxes
from kitsam.decoding.config import PromptConfig
from kitsam.decoding.ensemble import Ensemble, ensemble_of
from kitsam.decoding.runs import load_run
from kitsam.inference.cascade import Cascade, cascade_of, label_volume, most_probable
from kitsam.inference.config import CascadeConfig
from kitsam.inference.second_look import second_look_by
from kitsam.sam.decoder import random_decoder
from kitsam.shards.reader import ShardSet

SPACING = (5.0, 1.0, 1.0)
SHAPE = (4, 40, 40)


@pytest.fixture
def cascade():
    decoders = [Ensemble((random_decoder(1, 16 * 1, seed),), PromptConfig()) for seed in range(3)]
    config = CascadeConfig(smallest_roi=0.1, smallest_lesion=0.05, batch_size=3)
    return Cascade(*decoders, config, torch.device("cpu"))


@pytest.fixture
def answers(monkeypatch, cascade):
    """Let the decoders answer what the test says, by decoder: (S, H, W) probabilities, inside the boxes asked with."""
    said = {id(asked.decoders[0]): np.zeros(SHAPE, np.float32) for asked in (cascade.roi, cascade.tumor, cascade.cyst)}

    def answer(probabilities, decoder, embeddings, rows, boxes):
        slices = embeddings[:, 0, 0, 0].long()
        for row, (x0, y0, x1, y1) in zip(rows, boxes.round().astype(int)):
            probabilities[row, y0:y1, x0:x1] = torch.from_numpy(said[id(decoder)])[slices[row], y0:y1, x0:x1]

    monkeypatch.setattr(module, "raise_probabilities", answer)
    return {name: said[id(getattr(cascade, name).decoders[0])] for name in ("roi", "tumor", "cyst")}


def embeddings(first: int, count: int) -> torch.Tensor:
    """Each slice's embedding holds its number."""
    return torch.arange(first, first + count).float().view(-1, 1, 1, 1).expand(-1, 256, 1, 1)


def test_the_most_probable_class_wins_and_tumor_on_a_tie(cascade, answers):
    answers["roi"][:, 10:30, 10:30] = 0.9
    answers["tumor"][:, 10:20, 10:20] = 0.8
    answers["cyst"][:, 15:25, 10:20] = 0.8
    answers["cyst"][:, 10:12, 10:20] = 0.9
    label = label_volume(cascade, embeddings, SHAPE, SPACING)
    assert (label[:, 12:20, 10:20] == TUMOR).all()
    assert (label[:, 20:25, 10:20] == CYST).all() and (label[:, 10:12, 10:20] == CYST).all()
    assert (label[:, 25:30, 10:30] == KIDNEY).all() and not label[:, :10].any()


def test_lesions_count_inside_the_roi_only(cascade, answers):
    answers["roi"][:, 10:30, 10:30] = 0.9
    answers["tumor"][:] = 1.0
    label = label_volume(cascade, embeddings, SHAPE, SPACING)
    assert (label[:, 10:30, 10:30] == TUMOR).all() and (label > 0).sum() == 4 * 20 * 20


def test_specks_of_the_roi_go_and_holes_close(cascade, answers):
    answers["roi"][:, 10:30, 10:30] = 0.9
    answers["roi"][:, 18:20, 18:20] = 0.1
    answers["roi"][0, 0:2, 0:2] = 0.9
    label = label_volume(cascade, embeddings, SHAPE, SPACING)
    assert (label > 0).sum() == 4 * 20 * 20


def test_without_lesion_decoders_everything_is_kidney(cascade, answers):
    answers["roi"][:, 10:30, 10:30] = 0.9
    label = label_volume(Cascade(cascade.roi, None, None, cascade.config, cascade.device), embeddings, SHAPE, SPACING)
    assert set(np.unique(label)) == {0, KIDNEY}


def test_a_volume_without_kidney_is_all_background(cascade, answers):
    assert not label_volume(cascade, embeddings, SHAPE, SPACING).any()


def test_given_boxes_stand_for_those_of_the_roi(cascade, answers):
    answers["roi"][:, 5:15, 5:15] = 0.9
    answers["roi"][:, 5:15, 25:35] = 0.9
    answers["tumor"][:, 12:18, 5:15] = 0.9  # partly where the ROI decoder saw nothing
    given = SliceBoxes(np.array([1, 2]), np.array([[4, 4, 18, 20]] * 2, np.float32))
    label = label_volume(cascade, embeddings, SHAPE, SPACING, given)
    assert not label[[0, 3]].any() and not label[:, :, 25:].any()
    assert (label[1:3, 12:18, 5:15] == TUMOR).all() and (label[1:3, 5:12, 5:15] == KIDNEY).all()


@pytest.mark.parametrize("margin", [0.1, 0.2], ids=["the same prompts", "other prompts"])
def test_both_lesion_decoders_take_a_batch_of_embeddings_together(cascade, answers, margin):
    answers["roi"][1:, 10:30, 10:30] = 0.9
    answers["tumor"][:, 12:18, 12:18] = answers["cyst"][:, 20:26, 20:26] = 0.9
    taken = []

    def source(first: int, count: int) -> torch.Tensor:
        taken.append((first, count))
        return embeddings(first, count)

    cyst = Ensemble(cascade.cyst.decoders, PromptConfig(margin=margin))
    label = label_volume(
        Cascade(cascade.roi, cascade.tumor, cyst, cascade.config, cascade.device), source, SHAPE, SPACING
    )
    assert taken == [(0, 3), (3, 1)] * 2
    assert (label[1:, 12:18, 12:18] == TUMOR).all() and (label[1:, 20:26, 20:26] == CYST).all()


def test_a_second_look_in_the_box_of_each_part_adds_to_it(cascade, answers, monkeypatch):
    answers["roi"][:, 2:38, 2:38] = 0.9
    answers["tumor"][1, 8:28, 8:28] = answers["tumor"][1, 32:36, 32:36] = answers["cyst"][2, 8:28, 8:28] = 0.9
    look = random_decoder(1, 16, 9)
    seen = np.zeros(SHAPE, np.float32)
    seen[1, 4:40, 20:40] = 0.9
    seen[3] = 0.9  # where nothing was found
    asked = []

    def answer(probabilities, decoder, embeddings, rows, boxes, others=module.raise_probabilities):
        if decoder is not look:
            return others(probabilities, decoder, embeddings, rows, boxes)
        slices = embeddings[:, 0, 0, 0].long()
        for row, box in zip(rows, boxes):
            if box[2] - box[0] > 36:  # of a kidney
                probabilities[row] = 0.9
                continue
            asked.append([int(slices[row]), *box])
            x0, y0, x1, y1 = box.round().astype(int)
            probabilities[row, y0:y1, x0:x1] = torch.from_numpy(seen)[slices[row], y0:y1, x0:x1]

    monkeypatch.setattr(module, "raise_probabilities", answer)
    label = label_volume(replace(cascade, second_look=second_look_by(look)), embeddings, SHAPE, SPACING)
    boxes = [[1, 7, 7, 29, 29], [1, 31.8, 31.8, 36.2, 36.2], [2, 7, 7, 29, 29]]  # wider by a twentieth on each side
    assert np.array(sorted(asked)) == pytest.approx(np.array(boxes))
    expected = np.zeros(SHAPE, np.uint8)
    expected[:, 2:38, 2:38] = KIDNEY
    expected[1, 8:28, 8:28] = expected[1, 32:36, 32:36] = expected[1, 7:29, 20:29] = TUMOR
    expected[2, 8:28, 8:28] = CYST
    assert np.array_equal(label, expected)


def test_a_second_look_at_kidneys_is_averaged_in_their_boxes(cascade, answers, monkeypatch):
    answers["roi"][1:3, 10:30, 10:30] = 0.7
    answers["roi"][1:3, 10:30, 30:36] = 0.3
    look = random_decoder(1, 16, 9)
    seen = np.zeros((40, 40), np.float32)
    seen[:20, 10:40] = 0.8
    asked = []

    def answer(probabilities, decoder, embeddings, rows, boxes, others=module.raise_probabilities):
        if decoder is not look:
            return others(probabilities, decoder, embeddings, rows, boxes)
        for row, box in zip(rows, boxes):
            asked.append([int(embeddings[row, 0, 0, 0]), *box])
            x0, y0, x1, y1 = box.round().astype(int)
            probabilities[row, y0:y1, x0:x1] = torch.from_numpy(seen)[y0:y1, x0:x1]

    monkeypatch.setattr(module, "raise_probabilities", answer)
    both = replace(cascade, tumor=None, cyst=None, second_look=second_look_by(look))
    label = label_volume(both, embeddings, SHAPE, SPACING)
    assert np.array_equal(np.array(sorted(asked), np.float32), [[1, 6, 6, 34, 34], [2, 6, 6, 34, 34]])
    expected = np.zeros(SHAPE, np.uint8)
    # The mean of 0.7 and 0.8, and of 0.3 and 0.8 as far as the box goes; of 0.7 and 0 it is below the threshold.
    expected[1:3, 10:20, 10:34] = KIDNEY
    assert np.array_equal(label, expected)


def test_a_second_look_stays_in_boxes_drawn_by_hand(cascade, answers, monkeypatch):
    answers["tumor"][1, 8:28, 8:28] = 0.9
    look = random_decoder(1, 16, 9)
    monkeypatch.setattr(module, "raise_probabilities", sees_all(look, module.raise_probabilities))
    given = SliceBoxes(np.array([1]), np.array([[8, 8, 20, 20]], np.float32))
    label = label_volume(replace(cascade, second_look=second_look_by(look)), embeddings, SHAPE, SPACING, given)
    assert (label[1, 8:20, 8:20] == TUMOR).all() and (label > 0).sum() == 12 * 12


def sees_all(look, others):
    """As `raise_probabilities`; one decoder sees something in all of its boxes."""

    def answer(probabilities, decoder, embeddings, rows, boxes):
        if decoder is not look:
            return others(probabilities, decoder, embeddings, rows, boxes)
        for row, (x0, y0, x1, y1) in zip(rows, boxes.round().astype(int)):
            probabilities[row, y0:y1, x0:x1] = 0.9

    return answer


def test_what_is_below_the_threshold_is_nothing_and_the_first_class_wins_a_tie():
    tumor, cyst = torch.tensor([0.5, 0.6, 0.6, 0.6, 0.2, 0.2]), torch.tensor([0.5, 0.6, 0.7, 0.5, 0.6, 0.4])
    label = most_probable({TUMOR: tumor, CYST: cyst}, 0.5)
    assert label.dtype == torch.uint8 and label.tolist() == [0, TUMOR, CYST, TUMOR, CYST, 0]


def test_the_answer_does_not_depend_on_the_batch_size(shards, runs, device):
    whole = ShardSet(shards)
    entry = whole.manifest.val[0]
    labels = []

    def source(first: int, count: int) -> torch.Tensor:
        return whole.validation_slices(entry, first, count).embeddings(device)

    for batch_size in (1, 3, 16):
        decoders = {target: ensemble_of([load_run(path, target)]) for target, path in runs.items()}
        config = CascadeConfig(roi_threshold=0.3, lesion_threshold=0.3, smallest_roi=0, batch_size=batch_size)
        cascade = cascade_of(decoders, config, device)
        labels.append(label_volume(cascade, source, (10, 64, 64), (4.0, 1.5, 1.5)))
    assert (labels[0] == labels[1]).mean() > 0.999 and (labels[0] == labels[2]).mean() > 0.999
