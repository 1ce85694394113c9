"""The report as a page: it stands alone, says what it is, and shows what there is."""

import base64
import hashlib
import re
import shutil
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image
from resources import Resources, charts_of, planes_of, text_of

from kitsam.evaluation.results import write_metrics
from kitsam.evaluation.summary import detection_cells, detections, result_rows, summarize
from kitsam.report import page
from kitsam.report.config import ReportConfig
from kitsam.system.errors import KitsamError, OptionError


def pages_of(report: Path) -> list[Path]:
    return sorted((report.parent / f"{report.stem}_cases").iterdir())


def test_no_page_loads_anything(report):
    for path in (report, *pages_of(report)):
        html = path.read_text(encoding="utf-8")
        resources = Resources(html)
        assert all(re.match("data:image/jpeg;base64,", value) for value in resources.loaded)
        assert not {"link", "iframe", "object"} & set(resources.tags)
        # But for names of XML, which nobody fetches.
        assert not re.search(r"https?://(?!www\.w3\.org/)|@import|url\((?!#)|eval\(|Function\(", html)
        assert "default-src 'none'" in html
        pictures = [value.split(",", 1)[1] for value in resources.loaded]
        pictures += [frame[0] for planes in planes_of(html) for plane in planes.values() for frame in plane["frames"]]
        for value in set(pictures):
            Image.open(BytesIO(base64.b64decode(value))).verify()


def test_each_case_has_a_page_and_all_links_lead_somewhere(report):
    paths = pages_of(report)
    assert [path.stem for path in paths] == [f"case_{number:05d}" for number in range(4)]
    for path in (report, *paths):
        html = path.read_text(encoding="utf-8")
        links = Resources(html).links
        assert links
        for link in links:
            there = f'id="{link[1:]}"' in html if link.startswith("#") else (path.parent / unquote(link)).is_file()
            assert there, link


def test_a_browser_may_run_the_pages_own_script_alone(html):
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html).group(1)
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert not re.search(r"<[^>]+\son\w+=", html)


def test_the_report_says_at_its_top_what_it_is(html, evaluation):
    top = text_of(html[: html.index('<section id="results"')])
    assert "For research only. Not a medical device" in top
    assert "4 scans that are no whole cases of KiTS23" in top
    assert "Trained decoders: ROI, tumor, cyst" in top
    assert f"kitsam evaluate --shards {evaluation.settings['shards']} --data {evaluation.settings['data']}" in top
    assert f"--roi {evaluation.settings['runs']['roi']}" in top
    assert re.search(r"figures 20\d\d-\d\d-\d\d \d\d:\d\d UTC by kitsam", top)


def test_the_papers_figures_stand_beside_cases_of_kits23_alone(html, text_of_report, evaluation):
    papers = ("0.432", "0.239", "0.222", "0.807", "0.268")
    assert not any(value in text_of(html) for value in papers) and "TransferSAM" not in html
    text = text_of_report(evaluation.scores, {**evaluation.settings, "origins": {"kits23": 4}})
    assert all(value in text for value in papers) and "TransferSAM on the test cases of the KiTS23 challenge" in text
    zero_shot = {**evaluation.settings, "origins": {"kits23": 4}, "zero_shot": True}
    assert "0.432" not in text_of_report(evaluation.scores, zero_shot)


def test_the_report_holds_all_numbers_in_the_order_in_which_they_are_asked_for(html, evaluation):
    text = " ".join(Resources(html[html.index('<section id="results"') :]).words)
    for value in summarize(evaluation.scores).values():
        assert f"{value:.3f}" in text
    for name, case in evaluation.scores.items():
        assert name in text and f"{case.tumor_surface_dice:.3f}" in text
    heads = [
        "Results",
        "Lesions found",
        "What went wrong",
        "Beside the official metrics",
        "How sure the decoders are",
        "Cases to look at",
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
    assert "0.883 at step 600" in text
    assert "4,000" in text and "0.750" in text
    assert "cascade.roi_threshold" in text


def test_charts_are_drawn_once_in_the_colors_of_the_page_and_say_what_they_show(html):
    charts = charts_of(html)
    assert len(charts) == 9 and all(len(alt) > 40 for alt in charts)
    assert "data:image/png" not in html
    for chart in charts.values():
        assert "var(--ink)" in chart and "#333a40" not in chart and "<metadata" not in chart
    assert "prefers-color-scheme: dark" in html


def test_dots_of_cases_have_their_names(html):
    (chart,) = (chart for alt, chart in charts_of(html).items() if alt.startswith("Tumor Dice of each case"))
    titles = re.findall(r"<title>(case_\d+): [\d.]+ mL, tumor Dice [\d.]+</title>", chart)
    assert titles == [f"case_{number:05d}" for number in range(4)]


def test_tables_say_what_their_heads_are_of(html):
    tables = re.findall(r"<table.*?</table>", html, re.DOTALL)
    assert tables
    for table in tables:
        heads = re.findall(r"<th[ >]", table)
        assert heads and len(re.findall(r'<th [^>]*scope="(?:col|row)"', table)) == len(heads)
        head = re.search(r"<thead.*?</thead>", table, re.DOTALL)[0]
        assert all(text.strip() for text in re.findall(r"<th[^>]*>([^<]*)</th>", head))


def test_text_from_files_is_escaped(html):
    assert "case_<99>" not in html and "case_&lt;99&gt;" in html and "truncated &amp; lost" in html
    assert "<b>bold</b>" not in html and "&lt;b&gt;bold&lt;/b&gt;" in html


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, ["names no data set", "names no training runs", "names no shard set", "4 cases of unknown origin"]),
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
    page_text = text_of((tmp_path / "report_cases" / "case_00000.html").read_text(encoding="utf-8"))
    assert f"No picture: {scan}" in page_text


def test_one_case_is_enough(text_of_report, evaluation):
    text = text_of_report({"case_00002": evaluation.scores["case_00002"]}, evaluation.settings)
    assert "Only case: case_00002" in text


def test_a_single_file_holds_every_case_and_no_page_is_written(evaluation, tmp_path):
    path = tmp_path / "report.html"
    assert page.run(ReportConfig([evaluation.folder], path, single_file=True)) == 0
    html = path.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [path] and len(planes_of(html)) == 4
    assert {"#case-0", "#case-3"} <= {*Resources(html).links}


def test_a_single_file_says_what_it_has_no_room_for(evaluation, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(page, "ROOM_BESIDE_CASES", 29_800_000)
    path = tmp_path / "report.html"
    assert page.run(ReportConfig([evaluation.folder], path, single_file=True)) == 0
    shown = len(planes_of(path.read_text(encoding="utf-8")))
    assert 0 < shown < 4
    assert f"no room in 30 MB for {4 - shown} of 4 cases" in capsys.readouterr().err


def test_many_cases_are_drawn_by_several_processes_to_the_same_pages(evaluation, report, tmp_path, monkeypatch):
    monkeypatch.setattr("kitsam.report.cases.FEW_CASES", 1)
    assert page.run(ReportConfig([evaluation.folder], tmp_path / "page.html")) == 0
    for one, other in zip(pages_of(report), pages_of(tmp_path / "page.html"), strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_names_with_odd_letters_become_links_that_work(text_of_report, evaluation, tmp_path):
    name = "Fall #1 ü?"
    data = tmp_path / "data" / name
    shutil.copytree(Path(evaluation.settings["data"]) / "case_00000", data)
    settings = {**evaluation.settings, "data": str(data.parent)}
    text_of_report({name: evaluation.scores["case_00000"]}, settings)
    links = Resources((tmp_path / "report.html").read_text(encoding="utf-8")).links
    assert "report_cases/Fall%20%231%20%C3%BC%3F.html" in links
    assert (tmp_path / "report_cases" / f"{name}.html").is_file()


def test_what_cannot_be_reported_is_refused(tmp_path, evaluation):
    with pytest.raises(KitsamError, match="metrics.json.*kitsam evaluate.*kitsam score"):
        page.run(ReportConfig([tmp_path]))
    with pytest.raises(OptionError, match="--single_file: shows cases"):
        ReportConfig([evaluation.folder, evaluation.folder], single_file=True)
    write_metrics(tmp_path, evaluation.scores, {"command": "score", "data": str(tmp_path)}, {})
    with pytest.raises(OptionError, match="would replace what was given"):
        page.run(ReportConfig([tmp_path], tmp_path / "metrics.csv"))
