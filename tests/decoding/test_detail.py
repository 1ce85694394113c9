import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from kitsam.decoding.detail import MEASURES, QUANTILES, SCALES, DetailNet, DetailNets, answer_with_detail, measure

PIXEL = 0.8


@pytest.fixture
def slice_with_kidneys():
    rng = np.random.default_rng(0)
    gray = ndimage.gaussian_filter(rng.uniform(0, 255, (160, 170)), 2).astype(np.float32)
    roi = np.zeros(gray.shape, bool)
    roi[60:90, 50:80] = roi[70:95, 100:115] = True
    return gray, roi


def plainly(gray, roi):
    """The measures by scipy on the whole slice."""

    def smooth(image, scale):
        radius = math.ceil(3 * scale / PIXEL)
        return ndimage.gaussian_filter(image, scale / PIXEL, mode="nearest", radius=radius)

    image, columns = gray / 64, []
    for scale in SCALES:
        mean, share = smooth(image, scale), smooth(roi * 1.0, scale)
        columns.append(mean)
        if scale > 1:
            spread = 2 * np.sqrt(np.maximum(smooth(image**2, scale) - mean**2, 0))
            columns += [spread, smooth(image * roi, scale) / (share + 1e-3), share]
    local = np.stack(columns)[:, roi].T
    numbers, count = ndimage.label(roi)
    whole = np.zeros((len(local), 7))
    for row, number in enumerate(numbers[roi]):
        some = local[numbers[roi] == number, 0]
        whole[row] = [*np.quantile(some, QUANTILES), math.sqrt(len(some)) * PIXEL / 50, count / 2]
    smoothed = local[:, [0, 1, 5]]
    return np.concatenate([local, whole, smoothed - whole[:, 2:3], smoothed - whole[:, 3:4]], axis=1)


def test_measures_are_those_of_scipy_on_the_whole_slice(slice_with_kidneys):
    gray, roi = slice_with_kidneys
    found = measure(torch.from_numpy(gray), torch.from_numpy(roi), PIXEL).numpy()
    assert found.shape == (roi.sum(), MEASURES)
    np.testing.assert_allclose(found, plainly(gray.astype(float), roi), atol=2e-3)


def test_a_slice_without_kidneys_has_no_measures():
    assert measure(torch.zeros(20, 30), torch.zeros(20, 30, dtype=torch.bool), PIXEL).shape == (0, MEASURES)


def test_networks_answer_inside_the_roi_alone(slice_with_kidneys):
    gray, roi = (np.stack([one, one, one]) for one in slice_with_kidneys)
    roi[1] = False
    nets = [DetailNets([constant(2.0), constant(0.0)]), DetailNets([constant(-1.0)])]
    said = torch.full(gray.shape, 0.3)
    answer = answer_with_detail(nets, said, torch.from_numpy(gray), roi, (PIXEL, PIXEL)).numpy()
    # The mean logit of networks that were trained together, the mean probability of runs.
    seen = (sigmoid(1.0) + sigmoid(-1.0)) / 2
    np.testing.assert_allclose(answer[roi], (0.3 + seen) / 2, atol=1e-6)
    np.testing.assert_array_equal(answer[~roi], np.float32(0.3))
    assert (said == torch.tensor(0.3)).all()


def constant(logit):
    net = DetailNet()
    torch.nn.init.zeros_(net.layers[-1].weight)
    torch.nn.init.constant_(net.layers[-1].bias, logit)
    return net


def sigmoid(logit):
    return 1 / (1 + math.exp(-logit))
