import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kitsam.ct.config import InputConfig, ViewsConfig
from kitsam.ct.views import View, draw_view, fit, mask_size, resize_pixels, transform_to_input, view_masks
from kitsam.ct.window import to_channels


@pytest.mark.parametrize("shape", [(48, 48), (48, 75), (75, 48), (200, 131)])
def test_resizing_is_that_of_segment_anything(shape):
    from segment_anything.utils.transforms import ResizeLongestSide

    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    theirs = ResizeLongestSide(96).apply_image(pixels)  # rounds to whole gray levels
    ours = resize_pixels(torch.from_numpy(pixels).permute(2, 0, 1)[None].float(), [View()], 96)[0].permute(1, 2, 0)
    assert ours.shape == theirs.shape
    assert np.abs(ours.numpy() - theirs).max() <= 1


def test_the_window_maps_to_0_and_255_and_clips():
    image = torch.tensor([-1000.0, -160.0, 40.0, 240.0, 3000.0]).view(1, 1, 5)
    channels = to_channels(image, [0], InputConfig())
    assert channels[0, 0, 0].tolist() == [0, 0, 127.5, 255, 255]
    assert torch.equal(channels[0, 0], channels[0, 2])


def test_adjacent_channels_are_the_neighbors_and_repeat_at_the_ends():
    image = torch.arange(4.0).view(4, 1, 1).expand(4, 2, 2) * 10
    channels = to_channels(image, [0, 2, 3], InputConfig(channels="adjacent", window=(0, 255)))
    assert channels[:, :, 0, 0].tolist() == [[0, 0, 10], [10, 20, 30], [20, 30, 30]]


def test_windows_channels_are_the_same_slice_in_three_windows():
    config = InputConfig(channels="windows", windows=((0, 100), (0, 200), (0, 400)))
    channels = to_channels(torch.full((1, 1, 1), 100.0), [0], config)
    assert channels.flatten().tolist() == [255, 127.5, 63.75]


@pytest.mark.parametrize("shape", [(64, 64), (40, 64)])
def test_a_view_moves_the_mask_with_the_picture(shape):
    label = np.zeros(shape, np.uint8)
    label[14:24, 16:40] = 2
    view = View(rotation=25, scale=1.2, is_mirrored=True, shift=(0.05, -0.02))
    mask = view_masks(torch.from_numpy(label)[None], [view])[0]
    picture = resize_pixels(torch.from_numpy(label).float().expand(1, 3, *shape) * 100, [view], 64)[0, 0]
    assert mask.shape == picture.shape
    disagree = (mask == 2) != (picture > 100)
    assert disagree.float().mean() < 0.02
    assert (mask == 2).sum() == pytest.approx(1.2**2 * (label == 2).sum(), rel=0.1)


@given(
    st.floats(-40, 40),
    st.floats(0.8, 1.25),
    st.booleans(),
    st.tuples(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2)),
    st.integers(5, 55),
    st.integers(5, 35),
)
def test_the_recorded_transform_says_where_a_point_went(rotation, scale, is_mirrored, shift, x, y):
    view = View(rotation=rotation, scale=scale, is_mirrored=is_mirrored, shift=shift)
    label = np.zeros((40, 60), np.uint8)
    label[y, x] = 1
    picture = torch.from_numpy(label).float().expand(1, 3, 40, 60) * 255
    moved = resize_pixels(picture, [view], 120)[0, 0]
    expected = transform_to_input(40, 60, 120, view) @ [x + 0.5, y + 0.5, 1]
    if moved.sum() < 200 or not (4 < expected[0] < 116 and 4 < expected[1] < 76):
        return  # the point left the slice
    rows, columns = np.indices(moved.shape) + 0.5
    found = [float((axis * moved.numpy()).sum() / moved.sum()) for axis in (columns, rows)]
    assert np.allclose(found, expected, atol=0.6)


def test_a_mirrored_and_a_shifted_view_are_numpys_own():
    pixels = torch.arange(256.0).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    mirrored = resize_pixels(pixels.clone(), [View(is_mirrored=True)], 16)[0, 0]
    assert np.allclose(mirrored, np.fliplr(pixels[0, 0]), atol=1e-3)
    label = torch.arange(256).view(1, 16, 16).to(torch.uint8)
    shifted = view_masks(label, [View(shift=(2 / 16, -1 / 16))])[0]
    assert np.array_equal(shifted[:-1, 2:], label[0, 1:, :-2]) and not shifted[:, :2].any()


def test_every_other_view_is_mirrored_and_shifts_stay_in_their_range():
    config = ViewsConfig(count=6, mirror=True, shift=0.08)
    views = [draw_view(config, 0, "case_00000", z, view) for z in range(20) for view in range(6)]
    assert [view.is_mirrored for view in views[:6]] == [False, True, False, True, False, True]
    shifts = np.abs([view.shift for view in views])
    assert shifts.max() <= 0.08 and shifts.max() > 0.07
    plain = draw_view(ViewsConfig(count=6), 0, "case_00000", 3, 1)
    other = draw_view(config, 0, "case_00000", 3, 1)
    assert (plain.rotation, plain.scale, plain.contrast) == (other.rotation, other.scale, other.contrast)


def test_view_zero_is_plain_and_others_depend_on_their_names_only():
    config = ViewsConfig(count=3)
    assert draw_view(config, 0, "case_00000", 5, 0).is_plain()
    assert draw_view(config, 0, "case_00000", 5, 1) == draw_view(config, 0, "case_00000", 5, 1)
    different = {
        draw_view(config, *names)
        for names in [(0, "a", 5, 1), (1, "a", 5, 1), (0, "b", 5, 1), (0, "a", 6, 1), (0, "a", 5, 2)]
    }
    assert len(different) == 5


@given(st.integers(1, 2000), st.integers(1, 2000))
def test_masks_keep_the_slices_size_up_to_512(height, width):
    size = mask_size(height, width)
    if max(height, width) <= 512:
        assert size == (height, width)
    else:
        assert max(size) == 512
    assert max(fit(height, width, 1024)) == 1024
