"""An experiment from its file to its table, killed on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean

import pytest
from scipy import stats

from kitsam.evaluation.results import read_metrics
from kitsam.evaluation.summary import figures
from kitsam.system.files import temporary_name

RECIPE = """
figure: kidney_and_masses_Dice
seeds: [0, 1]
embed: {encoder: {name: tiny, input_size: 64}, views: {count: 1}, val_fraction: 0.4, device: cpu}
roi: {steps: 6, batch_size: 4, optimizer: {peak_rate: 2.0e-3, warmup_steps: 2}, validation: {every: 6}, device: cpu}
evaluate: {cascade: {roi_threshold: 0.3, smallest_roi: 0.01}, device: cpu, workers: 1}
variants:
  bold: {}
  timid: {evaluate: {cascade: {roi_threshold: 0.45}}}
"""


def start(recipe: Path, data: Path, out: Path, *options: str) -> subprocess.Popen:
    words = [sys.executable, "-m", "kitsam", "experiment", recipe, "--data", data, "--out", out, *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def records(out: Path) -> dict[str, float]:
    """Seconds of each job that is done."""
    read = {path.stem: json.loads(path.read_text()) for path in (out / "jobs").glob("[!.]*.json")}
    return {name: record["seconds"] for name, record in read.items() if record["done"]}


@pytest.fixture(scope="module")
def killed_experiment(data, tmp_path_factory) -> tuple[Path, dict[str, float], str]:
    """Its folder, what was done when it was killed, and what the second start said."""
    folder = tmp_path_factory.mktemp("experiment")
    recipe, out = folder / "experiment.yaml", folder / "out"
    recipe.write_text(RECIPE)
    process = start(recipe, data, out)
    while len(records(out)) < 2 and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = records(out)
    with temporary_name(out / "jobs" / "roi.json") as left:
        pass
    left.with_name(left.name.replace(str(os.getpid()), str(process.pid))).touch()  # as if it had died at its writing
    process = start(recipe, data, out, "--side_by_side", "2")
    text, _ = process.communicate()
    assert process.returncode == 0, text
    return out, before, text


def test_a_killed_experiment_goes_on_with_what_is_missing(killed_experiment):
    out, before, text = killed_experiment
    assert 2 <= len(before) < 7
    after = records(out)
    assert len(after) == 7 and {name: after[name] for name in before} == before
    assert not list((out / "jobs").glob(".tmp-*"))
    assert "2 variants, 7 jobs; to run: " in text
    assert all(str(out / name) in text for name in ("table.md", "table.json", "index.html"))


def test_its_table_is_that_of_the_results(killed_experiment):
    """Against the metrics themselves, by plain means and scipy."""
    out, _, _ = killed_experiment
    table = json.loads((out / "table.json").read_text())
    cases = []
    for row in table["rows"]:
        folders = [Path(command.split()[-1]) for command in table["commands"][row["variant"]]]
        assert [folder.is_file() for folder in folders] == [True] * 3
        cell = row["cells"]["kidney_and_masses_Dice"]
        digests = {path.name for path in (out / "results").iterdir()}
        seeds = [read_metrics(out / "results" / name).scores for name in sorted(digests) if _is_of(out, name, row)]
        assert len(seeds) == 2
        means = [fmean(figures(scores[name])["kidney_and_masses_Dice"] for scores in seeds) for name in seeds[0]]
        assert cell["mean"] == pytest.approx(fmean(means))
        cases.append(means)
    first, second = cases
    difference = table["rows"][1]["cells"]["kidney_and_masses_Dice"]
    assert difference["difference"] == pytest.approx(fmean(second) - fmean(first))
    assert difference["p_value"] == pytest.approx(stats.wilcoxon(second, first).pvalue)


def _is_of(out: Path, name: str, row: dict) -> bool:
    """Whether an evaluation is of the variant, by its threshold."""
    threshold = read_metrics(out / "results" / name).settings["cascade"]["roi_threshold"]
    return (threshold == 0.45) == (row["variant"] == "timid")


def test_the_page_shows_what_the_table_says_and_needs_no_network(killed_experiment):
    out, _, _ = killed_experiment
    page, table = (out / "index.html").read_text(), json.loads((out / "table.json").read_text())
    for row in table["rows"]:
        assert f"{row['cells']['kidney_and_masses_Dice']['mean']:.3f}" in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_job_that_fails_is_named_and_takes_only_those_with_it_that_need_it(data, killed_experiment, tmp_path):
    out, _, _ = killed_experiment
    recipe = tmp_path / "experiment.yaml"
    recipe.write_text(f"{RECIPE}  broken: {{roi: {{quotas: {{tumour: 1}}}}}}\n")
    process = start(recipe, data, out)
    text, _ = process.communicate()
    assert process.returncode == 2 and "variant broken: roi: --quotas: unknown stratum tumour" in text
    # What only the stage itself can see fails there.
    recipe.write_text(f"{RECIPE}  broken: {{roi: {{start_from: {tmp_path / 'no_run'}}}}}\n")
    process = start(recipe, data, out)
    text, _ = process.communicate()
    assert process.returncode == 1
    assert "exit code 2" in text and "no such folder" in text and "it needs roi-" in text
    table = json.loads((out / "table.json").read_text())
    assert [(row["variant"], row["results"], bool(row["cells"])) for row in table["rows"]] == [
        ("bold", 2, True),
        ("timid", 2, True),
        ("broken", 0, False),
    ]


def test_another_data_set_is_refused_for_the_folder(killed_experiment, tmp_path, data):
    out, _, _ = killed_experiment
    recipe, other = tmp_path / "experiment.yaml", tmp_path / "data"
    recipe.write_text(RECIPE)
    other.symlink_to(data, target_is_directory=True)
    process = start(recipe, other, out)
    text, _ = process.communicate()
    assert process.returncode == 2 and "--data:" in text and "choose another --out" in text
