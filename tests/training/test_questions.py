import numpy as np
import pytest
import torch
from training.drawn_samples import ask, samples

from kitsam.ct.strata import strata_for
from kitsam.decoding.config import PromptConfig
from kitsam.shards.reader import Samples
from kitsam.shards.sample import SampleRecord
from kitsam.training.drawing import FAR_WEIGHT, move
from kitsam.training.questions import Questions

GRID = 4  # cells of 16 pixels of a mask, logits 16 a side


@pytest.fixture
def two_kidneys() -> np.ndarray:
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 4:24] = 1
    mask[20:40, 40:60] = 1
    mask[24:32, 8:16] = 2
    return mask


def test_the_roi_decoder_is_asked_once_a_slice_with_its_fixed_box(two_kidneys):
    config = PromptConfig(roi_box=(0, 0.25, 1, 1))
    questions, answers = ask(samples(two_kidneys, np.zeros((64, 64), np.uint8)), "roi", config)
    assert answers.boxes.tolist() == [[0, 1, 4, 4]] * 2 and questions.slice_of_box.tolist() == [0, 1]
    assert answers.targets[0].sum() == pytest.approx(2 * 20 * 20 / 16) and not answers.targets[1].any()
    assert not answers.region[:, :4].any() and answers.region[:, 4:].all()
    assert answers.positive.tolist() == [1, 0]


def test_a_lesion_decoder_is_asked_about_each_kidney_with_or_without_a_lesion(two_kidneys):
    _, tumor = ask(samples(two_kidneys), "tumor", PromptConfig(margin=0.0, jitter=0.0))
    assert tumor.boxes.tolist() == [[0.25, 1.25, 1.5, 2.5], [2.5, 1.25, 3.75, 2.5]]
    inside = (tumor.targets * tumor.region).sum((1, 2))
    assert inside.tolist() == [pytest.approx(8 * 8 / 16), 0] and tumor.positive.tolist() == [1, 0]
    _, cyst = ask(samples(two_kidneys), "cyst", PromptConfig())
    assert len(cyst.boxes) == 2 and not cyst.targets.any()


def test_a_target_is_the_share_of_the_pixel_that_the_class_covers():
    mask = np.zeros((64, 64), np.uint8)
    mask[0:4, 0:2] = 1  # half of the first of 16 x 16 logits
    _, answers = ask(samples(mask), "roi", PromptConfig())
    assert answers.targets[0, 0, 0] == 0.5 and answers.targets[0].sum() == 0.5


def test_a_wide_slice_is_padded_below():
    _, answers = ask(samples(np.ones((32, 64), np.uint8)), "roi", PromptConfig())
    assert answers.boxes.tolist() == [[0, 0, 4, 2]]
    assert answers.targets[0, :8].all() and not answers.targets[0, 8:].any() and not answers.region[0, 8:].any()


def test_boxes_repeat_for_the_same_step_and_change_with_it(two_kidneys):
    first, again, later = (ask(samples(two_kidneys), "tumor", PromptConfig(), step)[0].boxes for step in (5, 5, 6))
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
    region = ask(samples(corner), "tumor", PromptConfig(margin=0, jitter=0))[1].region[0]
    assert region[6, 5] == region[14, 13] == 1 and region[6, 13] == FAR_WEIGHT and region[0, 0] == 0


def test_lesions_count_more_for_the_roi_decoder_as_asked(two_kidneys):
    plain, weighed = (
        ask(samples(two_kidneys), "roi", PromptConfig(), lesion_weight=weight)[1] for weight in (1.0, 3.0)
    )
    assert plain.region.eq(1).all() and torch.equal(plain.targets, weighed.targets)
    assert weighed.region[0, 6, 2] == 3 and weighed.region[0, 12, 2] == 1 and weighed.region[0, 0, 0] == 1


@pytest.mark.parametrize("target", ["roi", "tumor"])
def test_a_moved_slice_keeps_boxes_targets_and_embedding_together(two_kidneys, target):
    marked = samples(two_kidneys)
    marked.stored[0, 0] = torch.arange(GRID * GRID).view(GRID, GRID)
    config = PromptConfig(jitter=0.0)
    still = ask(marked, target, config)[1]
    moves = set()
    for step in range(20):
        questions, moved = ask(marked, target, config, step, shift=0.5)
        right, down = (moved.boxes - still.boxes)[0, :2].round().int().tolist()
        moves.add((right, down))
        assert questions.moves.tolist() == [[down, right]]
        assert torch.equal(move(questions.stored, questions.moves), marked.stored.roll((down, right), (2, 3)))
        assert torch.equal(moved.targets, still.targets.roll((4 * down, 4 * right), (1, 2)))
        # What returns on the other side is in no box.
        before = [torch.arange(4 * GRID) - 4 * cells for cells in (down, right)]
        rows, columns = ((axis >= 0) & (axis < 4 * GRID) for axis in before)
        region = still.region.roll((4 * down, 4 * right), (1, 2)) * (rows[:, None] & columns)
        assert torch.equal(moved.region, region)
    # The kidneys reach from row 20 to 40 and from column 4 to 60 of 64: there is room for a cell up and down only.
    assert moves == {(0, -1), (0, 0), (0, 1)}


@pytest.mark.parametrize(("parts", "sizes"), [(1, [5]), (2, [3, 2]), (3, [2, 2, 1]), (5, [1] * 5), (9, [1] * 5)])
def test_a_batch_is_split_by_slices_with_their_boxes(two_kidneys, parts, sizes):
    batch: Samples = samples(*[two_kidneys] * 5)
    questions: Questions = ask(batch, "tumor", PromptConfig())[0]
    split = questions.split(parts)
    assert [part.slices.stop - part.slices.start for part in split] == sizes
    for part in split:
        rows = questions.slice_of_box[part.boxes]
        assert rows.unique().tolist() == list(range(part.slices.start, part.slices.stop)) and len(rows) == 2 * len(
            rows.unique()
        )
