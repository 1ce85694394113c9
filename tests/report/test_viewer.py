"""The slider: what a page holds for it, and that it moves in a browser."""

import re

import chromium
import numpy as np
import pytest
from PIL import Image, ImageDraw

from kitsam.ct.case import Case
from kitsam.report import page
from kitsam.report.config import ReportConfig
from kitsam.report.viewer import MOST_FRAMES, outline_path, view

SPACING = (4.0, 1.5, 1.5)


def filled(path: str, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: the pixels whose centers a path of half pixels goes around."""
    canvas = Image.new("1", (4 * shape[1], 4 * shape[0]))
    inside = np.zeros(shape, bool)
    for x, y, moves in re.findall(r"M(-?\d+) (-?\d+)l([-\d ]+)z", path):
        steps = np.array(moves.split(), int).reshape(-1, 2)
        points = np.cumsum(np.concatenate([[[int(x), int(y)]], steps]), axis=0)
        part = canvas.copy()
        ImageDraw.Draw(part).polygon([tuple(point) for point in (2 * points).tolist()], fill=1)
        inside ^= np.asarray(part)[2::4, 2::4]
    return inside


def test_a_path_goes_around_exactly_what_is_inside():
    y, x = np.indices((30, 40))
    mask = ((y - 12) ** 2 + (x - 15) ** 2 < 90) & ~((y - 12) ** 2 + (x - 15) ** 2 < 20)
    mask |= (x > 33) & (y < 9)  # up to two edges of the picture
    mask[25:29, 3:12] = True
    np.testing.assert_array_equal(filled(outline_path(mask), mask.shape), mask)
    assert outline_path(np.zeros((4, 4), bool)) == ""


def test_all_slices_that_hold_something_can_be_seen_and_of_many_an_even_choice(labels, image):
    def frames(repeats: int) -> int:
        tall, seen = np.repeat(labels, repeats, axis=0), np.repeat(image, repeats, axis=0)
        return len(view(Case("case_00000", seen, tall, SPACING, None), np.roll(tall, repeats, axis=0)).frames)

    filled_slices = np.flatnonzero(labels.any(axis=(1, 2)))
    assert frames(1) == filled_slices[-1] - filled_slices[0] + 2
    assert MOST_FRAMES <= frames(20) <= MOST_FRAMES + 4


@pytest.fixture(scope="module")
def report(evaluation, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    assert page.run(ReportConfig(evaluation.folder, path)) == 0
    return path


@pytest.fixture(params=[(1280, False), (390, False), (390, True)], ids=["desk", "phone", "phone, dark"])
def opened(request, report):
    if chromium.PROGRAM is None:
        pytest.skip("needs chromium")
    browser = chromium.Page(*request.param)
    try:
        browser.open(report)
        yield browser
    finally:
        browser.close()


STATE = """(() => {
  const viewer = document.querySelector('.viewer');
  return {value: +viewer.querySelector('input').value, caption: viewer.querySelector('output').textContent,
          image: viewer.querySelector('img').src, alt: viewer.querySelector('img').alt,
          path: viewer.querySelector('path.truth').getAttribute('d'),
          width: viewer.querySelector('img').naturalWidth, shown: viewer.querySelector('.controls').offsetHeight > 0};
})()"""


def test_in_a_browser_keys_buttons_and_boxes_move_what_is_seen(opened):
    before = opened.evaluate(STATE)
    assert before["shown"] and before["width"] > 0
    opened.evaluate("document.querySelector('.viewer input').focus()")
    opened.press("ArrowRight", 39)
    after = opened.evaluate(STATE)
    assert after["value"] == before["value"] + 1
    assert all(after[name] != before[name] for name in ("caption", "image", "path"))
    assert after["alt"] == f"case_00003, {after['caption']}"
    assert int(after["caption"].split()[1]) == int(before["caption"].split()[1]) + 1
    opened.evaluate("document.querySelector('.viewer button:last-of-type').click()")
    assert opened.evaluate(STATE)["caption"] != after["caption"]
    opened.evaluate("document.querySelector('.viewer input[name=truth]').click()")
    visible = "getComputedStyle(document.querySelector('.viewer .truth')).display"
    assert opened.evaluate(visible) == "none"
    assert opened.errors == []


def test_in_a_browser_nothing_is_fetched_and_nothing_is_cut_off(opened):
    assert all(url.startswith(("file:", "data:")) for url in opened.requests)
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    pictures = opened.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 0)")
    assert pictures and all(pictures)
    assert opened.errors == []
