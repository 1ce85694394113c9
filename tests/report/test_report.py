"""Overlays and the one-file report."""

import base64
import hashlib
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from kitsam.decoding.training_log import read_log
from kitsam.evaluation.beside import beside_rows, calibration, froc_curves
from kitsam.evaluation.compare import compare, figures_of, write_comparison
from kitsam.evaluation.results import write_metrics
from kitsam.evaluation.summary import detection_cells, detections, figures, result_rows, summarize
from kitsam.pictures.overlay import (
    DOTS_PER_INCH,
    OUTLINES,
    PANEL_INCHES,
    Panel,
    case_overlay,
    choose_panels,
    draw_overlay,
)
from kitsam.report import page
from kitsam.report.config import ReportConfig
from kitsam.system.errors import KitsamError

SPACING = (4.0, 1.5, 1.5)
COLORS = {name: tuple(int(color[at : at + 2], 16) for at in (1, 3, 5)) for _, name, color in OUTLINES}


def pixels_near(picture: Image.Image, color: tuple[int, int, int]) -> int:
    distance = np.abs(np.asarray(picture.convert("RGB")).astype(int) - color).max(axis=-1)
    return int((distance < 25).sum())


@pytest.fixture
def draw():
    """One panel without captions, as pixels."""

    def render(labels, truth=None, spacing=(1.0, 1.0)) -> Image.Image:
        buffer = BytesIO()
        draw_overlay(buffer, [Panel(np.zeros(labels.shape), labels, truth, "")], spacing)
        return Image.open(buffer)

    return render


def test_a_panel_has_the_proportions_of_the_patient(draw):
    side = round(PANEL_INCHES * DOTS_PER_INCH)
    assert draw(np.zeros((100, 100), np.uint8)).size == (side, side)
    assert draw(np.zeros((100, 50), np.uint8)).size == (side // 2, side)
    assert draw(np.zeros((100, 50), np.uint8), spacing=(0.5, 2.0)).size == (side, side // 2)


@pytest.mark.parametrize(
    ("label", "drawn"), [(0, set()), (1, {"kidney with masses"}), (2, {"kidney with masses", "tumor"})]
)
def test_only_what_is_labeled_is_outlined(draw, label, drawn):
    # The outline of the kidney with its masses runs under that of a tumor where they coincide: here it does not.
    labels = np.zeros((60, 60), np.uint8)
    labels[10:50, 10:50] = min(label, 1)
    labels[25:35, 25:35] = label
    picture = draw(labels)
    assert {name for name, color in COLORS.items() if pixels_near(picture, color) > 20} == drawn


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 1.0), (2.0, 1.0)])
def test_an_outline_follows_the_border_of_its_mask(draw, spacing):
    labels = np.zeros((60, 60), np.uint8)
    labels[20:40, 15:45] = 1
    picture = np.asarray(draw(labels, spacing=spacing).convert("RGB")).astype(int)
    rows, columns = np.nonzero(np.abs(picture - COLORS["kidney with masses"]).max(axis=-1) < 25)
    height, width = picture.shape[:2]
    np.testing.assert_allclose(np.array([rows.min(), rows.max() + 1]) * 60 / height, [20, 40], atol=0.9)
    np.testing.assert_allclose(np.array([columns.min(), columns.max() + 1]) * 60 / width, [15, 45], atol=0.9)


def test_truth_is_solid_and_prediction_dashed(draw):
    nothing, labels = np.zeros((2, 60, 60), np.uint8)
    labels[10:50, 10:50] = 1
    color = COLORS["kidney with masses"]
    truth, prediction = pixels_near(draw(nothing, truth=labels), color), pixels_near(draw(labels, truth=nothing), color)
    assert 0.3 * truth < prediction < 0.8 * truth


def test_the_slices_with_most_tumor_cyst_and_kidney_are_chosen(image, labels):
    panels = choose_panels(image, labels, None, SPACING)
    shown = {panel.caption.split(": ")[1]: int(panel.caption.split()[1]) - 1 for panel in panels}
    assert shown["most tumor"] == (labels == 2).sum(axis=(1, 2)).argmax()
    assert shown["most cyst"] == (labels == 3).sum(axis=(1, 2)).argmax()
    assert shown["most kidney"] == (labels > 0).sum(axis=(1, 2)).argmax()
    assert len(panels) <= 4 and len({panel.image.shape for panel in panels}) == 1
    assert all(panel.prediction.any() for panel in panels)


def test_a_tumor_that_only_the_prediction_has_is_shown(image, labels):
    truth = np.where(labels == 2, 1, labels)
    captions = [panel.caption for panel in choose_panels(image, labels, truth, SPACING)]
    assert any("most tumor predicted" in caption for caption in captions)


def test_a_scan_without_findings_still_gives_a_picture(image, labels, tmp_path):
    case_overlay(tmp_path / "out" / "scan.png", image, np.zeros_like(labels), None, SPACING, "scan $1_2$")
    with Image.open(tmp_path / "out" / "scan.png") as picture:
        assert picture.format == "PNG" and min(picture.size) > 300
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scan.png"]


def test_the_case_overlay_shows_every_class_with_and_without_truth(image, labels, tmp_path):
    for truth in (labels, None):
        case_overlay(tmp_path / "case.png", image, np.roll(labels, 2, 1), truth, SPACING, "case_00000")
        with Image.open(tmp_path / "case.png") as picture:
            assert all(pixels_near(picture, color) > 100 for color in COLORS.values())
            # Wide enough for the panels side by side.
            assert picture.width > 2 * picture.height


@pytest.fixture(scope="module")
def html(evaluation, tmp_path_factory) -> str:
    """The report of an evaluation that has everything."""
    path = tmp_path_factory.mktemp("report") / "page.html"
    assert page.run(ReportConfig(evaluation.folder, path)) == 0
    return path.read_text(encoding="utf-8")


@pytest.fixture
def text_of_report(tmp_path):
    """The text of a report on other scores or settings."""

    def write(scores, settings) -> str:
        write_metrics(tmp_path, scores, settings, {})
        assert page.run(ReportConfig(tmp_path)) == 0
        return " ".join(Resources((tmp_path / "report.html").read_text(encoding="utf-8")).words)

    return write


def frames_of(html: str) -> list[list]:
    """What each case's slider shows: of each slice a JPEG in base64, a caption and outlines."""
    return [json.loads(text) for text in re.findall(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)]


class Resources(HTMLParser):
    """What a page would load, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loaded += [value for name, value in attributes if name in ("src", "srcset", "href", "data", "action")]

    def handle_data(self, data):
        self.words.append(data)


def test_the_report_stands_alone(html):
    resources = Resources(html)
    assert resources.loaded and all(re.match("data:image/(png|jpeg);base64,", value) for value in resources.loaded)
    assert not {"link", "iframe", "object"} & set(resources.tags)
    assert not re.search(r"https?://|@import|url\(|eval\(|Function\(", html)
    assert "default-src 'none'" in html
    pictures = {value.split(",", 1)[1] for value in resources.loaded}
    frames = [frame for frames in frames_of(html) for frame in frames]
    assert len(frames) > 10
    for value in {*pictures, *(jpeg for jpeg, _, _ in frames)}:
        Image.open(BytesIO(base64.b64decode(value))).verify()


def test_a_browser_may_run_the_pages_own_script_alone(html):
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html).group(1)
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert not re.search(r"<[^>]+\son\w+=", html)


def test_the_report_holds_the_numbers_beside_the_papers(html, evaluation):
    text = " ".join(Resources(html).words)
    for value in (*summarize(evaluation.scores).values(), 0.432, 0.239, 0.222, 0.807, 0.268):
        assert f"{value:.3f}" in text
    for name, case in evaluation.scores.items():
        assert name in text and f"{case.tumor_surface_dice:.3f}" in text
    # Results, then cases, then training, and what it was made with last.
    heads = [
        "Results",
        "Lesions found",
        "Beside the official metrics",
        "How sure the decoders are",
        "Worst, median and best case",
        "All cases",
        "Training",
        "Balance of the training slices",
        "Settings",
    ]
    assert sorted(heads, key=text.index) == heads
    for row in result_rows(evaluation.scores):
        assert row.interval_text and row.interval_text in text
    assert all(cell in text for found in detections(evaluation.scores).values() for cell in detection_cells(found))
    for part in ("Worst: case_00003", "Median: case_00001", "Best: case_00000", "There is no prediction to show."):
        assert part in text, part
    assert "best validation Dice 0.883 at step 600" in text
    assert "4,000" in text and "0.750" in text
    assert "cascade.roi_threshold" in text


def test_a_comparison_is_shown_where_there_is_one(text_of_report, evaluation, tmp_path):
    ours = {name: figures(case) for name, case in evaluation.scores.items()}
    theirs = {name: {figure: value / 2 for figure, value in case.items()} for name, case in ours.items()}
    write_comparison(tmp_path, compare(ours, theirs, "/elsewhere"))
    text = text_of_report(evaluation.scores, evaluation.settings)
    assert "4 cases against /elsewhere" in text and f"{summarize(evaluation.scores)['Dice'] / 2:+.3f}" in text


def test_a_comparison_with_the_baseline_says_what_that_is(text_of_report, evaluation, tmp_path):
    ours = {name: figures_of(case) for name, case in evaluation.scores.items()}
    write_comparison(tmp_path, replace(compare(ours, ours, "/elsewhere"), zero_shot=True))
    text = text_of_report(evaluation.scores, evaluation.settings)
    assert "zero-shot, the decoder of the encoder's own checkpoint" in " ".join(text.split())
    assert "ROI recall of cysts" in text


def test_figures_beside_the_official_ones_are_shown_and_told_to_those_who_see_no_chart(html, evaluation):
    text = " ".join(Resources(html).words)
    rows = beside_rows(evaluation.scores)
    assert len(rows) == 4
    for row in rows.values():
        assert row.label in text and f"{row.mean:.3f}" in text
    # The cyst lies in the other half of the slices, where nothing was asked.
    assert (rows["ROI_recall_tumor"].pooled, rows["ROI_recall_cyst"].pooled) == (1, 0)
    alts = re.findall(r'<img alt="([^"]*)" src="data:image/png', html)
    assert len(alts) == 8 and all(len(alt) > 40 for alt in alts)
    (end, *_), (curve,) = [
        [(100 * froc.sensitivity[-1], froc.false_per_case[-1]) for froc in froc_curves(evaluation.scores).values()],
        [alt for alt in alts if alt.startswith("Free-response curve")],
    ]
    assert "{:.0f} % of tumors at {:.2f} false ones a case".format(*end) in curve
    error = calibration(evaluation.scores)["tumor"].expected_error
    assert any(alt.startswith("Reliability diagram") and f"tumor {error:.4f}" in alt for alt in alts)


def test_label_maps_alone_tell_nothing_of_probabilities(text_of_report, evaluation):
    scores = {name: replace(case, answers=None) for name, case in evaluation.scores.items()}
    text = text_of_report(scores, evaluation.settings)
    assert "label maps alone do not tell" in text and "cyst Dice" in text and "ROI recall is" not in text


def test_the_report_fits_light_and_dark_pages(html):
    assert "prefers-color-scheme: dark" in html and 'name="viewport"' in html
    plots = re.findall(
        r'<source media="\(prefers-color-scheme: dark\)" srcset="([^"]+)">\s*<img alt="[^"]*" src="([^"]+)">', html
    )
    assert len(plots) == 8 and all(dark != light for dark, light in plots)


def test_text_from_files_is_escaped(html):
    assert "case_<99>" not in html and "case_&lt;99&gt;" in html and "truncated &amp; lost" in html
    assert "<b>bold</b>" not in html and "&lt;b&gt;bold&lt;/b&gt;" in html


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, ["names no data set", "names no training runs", "names no shard set"]),
        (
            {"data": "/nowhere", "runs": {"roi": "/nowhere"}, "shards": "/nowhere"},
            ["/nowhere/metrics.jsonl", "/nowhere/manifest.json"],
        ),
    ],
)
def test_what_is_missing_is_said_and_the_rest_is_shown(text_of_report, evaluation, settings, said):
    text = text_of_report(evaluation.scores, settings)
    assert all(part in text for part in said)
    assert f"{summarize(evaluation.scores)['Dice']:.3f}" in text


def test_a_damaged_scan_costs_its_picture_only(text_of_report, evaluation, tmp_path):
    data = shutil.copytree(evaluation.settings["data"], tmp_path / "data")
    scan = data / "case_00000" / "imaging.nii.gz"
    scan.write_bytes(scan.read_bytes()[:1000])
    text = text_of_report(evaluation.scores, {**evaluation.settings, "data": str(data)})
    assert f"No picture: {scan}" in text and "most tumor" in text


def test_one_case_is_enough(text_of_report, evaluation):
    text = text_of_report({"case_00002": evaluation.scores["case_00002"]}, evaluation.settings)
    assert "Only case: case_00002" in text


def test_a_folder_without_metrics_is_an_error_that_says_what_to_run(tmp_path):
    with pytest.raises(KitsamError, match="metrics.json.*kitsam evaluate.*kitsam score"):
        page.run(ReportConfig(tmp_path))


def test_a_log_that_a_stopped_run_left_unfinished_is_read(tmp_path):
    lines = [{"step": 10, "loss": 0.5}, {"step": 10, "val_dice": 0.25}, {"step": 20, "loss": 0.25}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 30, "lo')
    log = read_log(tmp_path)
    assert (log.steps.tolist(), log.loss.tolist(), log.best) == ([10, 20], [0.5, 0.25], (10, 0.25))
