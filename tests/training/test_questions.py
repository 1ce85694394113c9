import numpy as np
import pytest
import torch

from kitsam.ct.strata import strata_for
from kitsam.decoding.config import PromptConfig
from kitsam.shards.reader import Samples
from kitsam.shards.sample import SampleRecord
from kitsam.training.questions import FAR_WEIGHT, draw_questions

GRID = 4  # cells of 16 pixels of a mask, logits 16 a side


def samples(*masks: np.ndarray) -> Samples:
    records = tuple(
        SampleRecord("case_00000", z, 0, "tumor", (0, 0, 0, 0), mask.shape, (3.0, 1.0, 1.0), ((1, 0, 0), (0, 1, 0)))
        for z, mask in enumerate(masks)
    )
    return Samples(records, torch.zeros(len(masks), 256, GRID, GRID, dtype=torch.float16), None, masks)


@pytest.fixture
def two_kidneys() -> np.ndarray:
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 4:24] = 1
    mask[20:40, 40:60] = 1
    mask[24:32, 8:16] = 2
    return mask


def test_the_roi_decoder_is_asked_once_a_slice_with_its_fixed_box(two_kidneys):
    config = PromptConfig(roi_box=(0, 0.25, 1, 1))
    questions = draw_questions(samples(two_kidneys, np.zeros((64, 64), np.uint8)), "roi", config, 0, 0)
    assert questions.boxes.tolist() == [[0, 1, 4, 4]] * 2 and questions.slice_of_box.tolist() == [0, 1]
    assert questions.targets[0].sum() == pytest.approx(2 * 20 * 20 / 16) and not questions.targets[1].any()
    assert not questions.region[:, :4].any() and questions.region[:, 4:].all()


def test_a_lesion_decoder_is_asked_about_each_kidney_with_or_without_a_lesion(two_kidneys):
    questions = draw_questions(samples(two_kidneys), "tumor", PromptConfig(margin=0.0, jitter=0.0), 0, 0)
    assert questions.boxes.tolist() == [[0.25, 1.25, 1.5, 2.5], [2.5, 1.25, 3.75, 2.5]]
    inside = (questions.targets * questions.region).sum((1, 2))
    assert inside.tolist() == [pytest.approx(8 * 8 / 16), 0]
    cyst = draw_questions(samples(two_kidneys), "cyst", PromptConfig(), 0, 0)
    assert len(cyst.boxes) == 2 and not cyst.targets.any()


def test_a_target_is_the_share_of_the_pixel_that_the_class_covers():
    mask = np.zeros((64, 64), np.uint8)
    mask[0:4, 0:2] = 1  # half of the first of 16 x 16 logits
    questions = draw_questions(samples(mask), "roi", PromptConfig(), 0, 0)
    assert questions.targets[0, 0, 0] == 0.5 and questions.targets[0].sum() == 0.5


def test_a_wide_slice_is_padded_below():
    mask = np.ones((32, 64), np.uint8)
    questions = draw_questions(samples(mask), "roi", PromptConfig(), 0, 0)
    assert questions.boxes.tolist() == [[0, 0, 4, 2]]
    assert questions.targets[0, :8].all() and not questions.targets[0, 8:].any() and not questions.region[0, 8:].any()


def test_boxes_repeat_for_the_same_step_and_change_with_it(two_kidneys):
    first, again, later = (
        draw_questions(samples(two_kidneys), "tumor", PromptConfig(), 0, step).boxes for step in (5, 5, 6)
    )
    assert torch.equal(first, again) and not torch.equal(first, later)


def test_lesion_decoders_see_no_slice_without_kidney():
    assert "background" in strata_for("roi") and "background" not in strata_for("tumor")


def test_pixels_of_a_reduced_mask_are_larger():
    record = SampleRecord("a", 0, 0, "kidney", (0, 0, 0, 0), (512, 1024), (3.0, 0.5, 0.5), ((1, 0, 0), (0, 1, 0)))
    assert record.pixel_of(np.zeros((256, 512), np.uint8)) == (1.0, 1.0)


def test_what_lies_far_from_the_roi_counts_less_for_a_lesion_decoder():
    corner = np.zeros((64, 64), np.uint8)
    corner[20:60, 20:24] = 1
    corner[56:60, 20:60] = 1
    region = draw_questions(samples(corner), "tumor", PromptConfig(margin=0, jitter=0), 0, 0).region[0]
    assert region[6, 5] == region[14, 13] == 1 and region[6, 13] == FAR_WEIGHT and region[0, 0] == 0


def test_lesions_count_more_for_the_roi_decoder_as_asked(two_kidneys):
    plain, weighed = (
        draw_questions(samples(two_kidneys), "roi", PromptConfig(), 0, 0, lesion_weight=weight) for weight in (1.0, 3.0)
    )
    assert plain.region.eq(1).all() and torch.equal(plain.targets, weighed.targets)
    assert weighed.region[0, 6, 2] == 3 and weighed.region[0, 12, 2] == 1 and weighed.region[0, 0, 0] == 1


@pytest.mark.parametrize("target", ["roi", "tumor"])
def test_a_moved_slice_keeps_boxes_targets_and_embedding_together(two_kidneys, target):
    marked = samples(two_kidneys)
    marked.stored[0, 0] = torch.arange(GRID * GRID).view(GRID, GRID)
    config = PromptConfig(jitter=0.0)
    still = draw_questions(marked, target, config, 0, 0)
    before = still.stored.clone()
    moves = set()
    for step in range(20):
        moved = draw_questions(
            Samples(marked.records, before.clone(), None, marked.masks), target, config, 0, step, shift=0.5
        )
        right, down = (moved.boxes - still.boxes)[0, :2].round().int().tolist()
        moves.add((right, down))
        assert torch.equal(moved.stored, before.roll((down, right), (2, 3)))
        assert torch.equal(moved.targets, still.targets.roll((4 * down, 4 * right), (1, 2)))
        assert moved.targets.sum() == still.targets.sum() and torch.equal(
            moved.region.roll((-4 * down, -4 * right), (1, 2)), still.region
        )
    # The kidneys reach from row 20 to 40 and from column 4 to 60 of 64: there is room for a cell up and down only.
    assert moves == {(0, -1), (0, 0), (0, 1)}
