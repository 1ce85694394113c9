import numpy as np
import pytest

from kitsam.phantom.noise import Noise, draw_noise, noise_slices, slice_weights

PIXEL = 0.8  # mm
EVEN = Noise(deviation=15.0, kernel=0.35, streaks=0.0, thickness=5.0)


def slices_of(noise, count=6, spacing=5.0, size=256):
    return np.stack(list(noise_slices(noise, (count, size, size), (spacing, PIXEL, PIXEL), "test")))


def power(noise):
    """Mean power at each frequency, and the frequencies along rows and columns in cycles per mm."""
    spectrum = np.mean(np.abs(np.fft.fft2(noise)) ** 2, axis=0)
    along = np.fft.fftfreq(noise.shape[1], PIXEL)
    return spectrum, along[:, None], along[None]


def test_power_is_low_at_low_frequencies_highest_at_the_kernels_and_gone_above_it():
    spectrum, rows, columns = power(slices_of(EVEN))
    frequency = np.hypot(rows, columns)

    low, middle, high = (
        spectrum[(frequency > a) & (frequency < b)].mean() for a, b in ((0.005, 0.04), (0.2, 0.3), (0.58, 0.62))
    )
    assert low < 0.3 * middle and high < 0.3 * middle
    # The ramp: power grows with the frequency.
    next_to_low = spectrum[(frequency > 0.05) & (frequency < 0.08)].mean()
    assert 1.5 < next_to_low / spectrum[(frequency > 0.015) & (frequency < 0.045)].mean() < 3


def test_noise_has_its_deviation_and_no_offset():
    noise = slices_of(EVEN)

    assert noise.std() == pytest.approx(15, rel=0.02)
    assert abs(noise.mean()) < 0.1
    assert noise.dtype == np.float32


def test_streaks_run_along_the_rows():
    spectrum, rows, columns = power(slices_of(Noise(15.0, 0.35, 2.0, 5.0)))
    middle = (np.hypot(rows, columns) > 0.1) & (np.hypot(rows, columns) < 0.4)

    across = spectrum[middle & (np.abs(rows) > 4 * np.abs(columns))].mean()
    along = spectrum[middle & (np.abs(columns) > 4 * np.abs(rows))].mean()
    assert across / along == pytest.approx(3, rel=0.15)


def neighbor_correlation(noise):
    return np.corrcoef(noise[2].ravel(), noise[3].ravel())[0, 1]


def test_slices_nearer_than_their_thickness_share_noise_and_others_little():
    thin = slices_of(Noise(15.0, 0.35, 0.0, 3.0), spacing=1.0)
    apart = slices_of(Noise(15.0, 0.35, 0.0, 5.0), spacing=5.0)

    assert neighbor_correlation(thin) > 0.7
    assert neighbor_correlation(apart) < 0.35
    assert np.linalg.norm(slice_weights(3.0)) == pytest.approx(1)


def test_thin_slices_are_noisier():
    deviations = [
        np.mean([draw_noise(np.random.default_rng(seed), mm).deviation for seed in range(40)]) for mm in (0.8, 2.5, 5)
    ]

    assert deviations[0] > deviations[1] > deviations[2]
    assert 10 < deviations[2] < 17 and 18 < deviations[0] < 34


def test_a_slice_depends_on_its_purpose_alone():
    np.testing.assert_array_equal(slices_of(EVEN, count=3, size=32), slices_of(EVEN, count=6, size=32)[:3])
