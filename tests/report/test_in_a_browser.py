"""The pages opened in Chromium: they move, fetch nothing, cut nothing off, and can be used by keys."""

import chromium
import pytest

from kitsam.report import page
from kitsam.report.config import ReportConfig


@pytest.fixture(params=[(1280, False), (390, False), (390, True)], ids=["desk", "phone", "phone, dark"])
def browser(request):
    if chromium.PROGRAM is None:
        pytest.skip("needs chromium")
    page = chromium.Page(*request.param)
    try:
        yield page
    finally:
        page.close()


@pytest.fixture
def opened(browser, report):
    browser.open(report)
    return browser


@pytest.fixture
def opened_case(browser, report):
    browser.open(report.parent / "page_cases" / "case_00001.html")
    return browser


STATE = """(() => {
  const viewer = document.querySelector('.viewer');
  return {value: +viewer.querySelector('input').value, caption: viewer.querySelector('output').textContent,
          image: viewer.querySelector('img').src, alt: viewer.querySelector('img').alt,
          path: viewer.querySelector('path.truth').getAttribute('d'),
          width: viewer.querySelector('img').naturalWidth, shown: viewer.querySelector('.controls').offsetHeight > 0};
})()"""
CHOOSE = """((name, value) => { const select = document.querySelector(`select[name=${name}]`);
  select.value = value ?? select.options[1].value; select.dispatchEvent(new Event('change')); })"""


def test_keys_buttons_and_boxes_move_what_is_seen(opened):
    before = opened.evaluate(STATE)
    assert before["shown"] and before["width"] > 0
    opened.evaluate("document.querySelector('.viewer input').focus()")
    opened.press("ArrowRight", 39)
    after = opened.evaluate(STATE)
    assert after["value"] == before["value"] + 1
    assert all(after[name] != before[name] for name in ("caption", "image", "path"))
    assert after["alt"] == f"case_00003, axial, {after['caption']}"
    assert int(after["caption"].split()[1]) == int(before["caption"].split()[1]) + 1
    opened.evaluate("document.querySelector('.viewer button:last-of-type').click()")
    assert opened.evaluate(STATE)["caption"] != after["caption"]
    opened.evaluate("document.querySelector('.viewer input[name=truth]').click()")
    visible = "getComputedStyle(document.querySelector('.viewer .truth')).display"
    assert opened.evaluate(visible) == "none"
    assert opened.errors == []


def test_planes_windows_and_sizes_can_be_chosen_and_a_lesion_jumped_to(opened_case):
    axial = opened_case.evaluate(STATE)
    opened_case.evaluate(f"{CHOOSE}('plane', 'sagittal')")
    sagittal = opened_case.evaluate(STATE)
    assert "sagittal" in sagittal["caption"] and sagittal["image"] != axial["image"]
    assert opened_case.evaluate("document.querySelector('.left').textContent") == "A"
    filter_of = "getComputedStyle(document.querySelector('.picture img')).filter"
    before = opened_case.evaluate(filter_of)
    opened_case.evaluate(f"{CHOOSE}('window')")
    assert before.startswith("contrast(") and opened_case.evaluate(filter_of) != before
    width = "document.querySelector('.picture').offsetWidth / document.querySelector('.scroll').clientWidth"
    opened_case.evaluate(f"{CHOOSE}('zoom', '2')")
    assert opened_case.evaluate(width) == pytest.approx(2, abs=0.02)
    opened_case.evaluate(f"{CHOOSE}('plane', 'axial')")
    opened_case.evaluate("document.querySelector('.lesions button').click()")
    at = opened_case.evaluate("document.querySelector('.lesions button').textContent")
    assert opened_case.evaluate(STATE)["caption"] == f"slice {at} of 12"
    assert opened_case.errors == []


def test_the_scale_is_a_centimeter_long(opened_case):
    shares = opened_case.evaluate(
        "document.querySelector('.scale i').getBoundingClientRect().width"
        " / document.querySelector('.picture').getBoundingClientRect().width"
    )
    mm = opened_case.evaluate("JSON.parse(document.querySelector('.viewer script').textContent).axial.mm[1]")
    assert shares == pytest.approx(10 / mm, rel=0.02)


def check_whole(browser) -> None:
    """Nothing is fetched, nothing is cut off, all pictures are there."""
    assert all(url.startswith(("file:", "data:")) for url in browser.requests)
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    pictures = browser.evaluate("[...document.images].map(image => image.complete && image.naturalWidth > 0)")
    assert pictures and all(pictures)
    assert browser.errors == []


def test_nothing_is_fetched_and_nothing_of_the_report_is_cut_off(opened):
    check_whole(opened)


def test_nothing_is_fetched_and_nothing_of_a_case_is_cut_off(opened_case):
    check_whole(opened_case)


def test_a_comparison_is_not_cut_off_either(browser, evaluation, tmp_path):
    path = tmp_path / "comparison.html"
    assert page.run(ReportConfig([evaluation.folder, evaluation.folder], path)) == 0
    browser.open(path)
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert browser.errors == []
