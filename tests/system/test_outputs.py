"""What was given is never written over, by whatever name."""

import gzip
import os
import shutil
from pathlib import Path

import pytest
from tiny import embed_config

from kitsam.system.errors import OptionError
from kitsam.system.outputs import files_in, refuse_overwriting


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "data" / "scan.nii.gz"
    path.parent.mkdir()
    path.write_bytes(b"a patient")
    return path


def test_an_output_that_is_an_input_is_refused_with_both_names(scan, monkeypatch):
    monkeypatch.chdir(scan.parent)
    with pytest.raises(OptionError) as refusal:
        refuse_overwriting([scan.parent / "other", scan.relative_to(scan.parent)], [None, scan])
    assert str(refusal.value).startswith("--out: scan.nii.gz ") and str(scan) in str(refusal.value)


@pytest.mark.parametrize("link", [os.symlink, os.link])
@pytest.mark.parametrize("turned", [False, True])
def test_links_hide_nothing(scan, tmp_path, link, turned):
    other = tmp_path / "other.nii.gz"
    link(scan, other)
    outputs, inputs = ([scan], [other]) if turned else ([other], [scan])
    with pytest.raises(OptionError, match="--model: .* would replace what was given"):
        refuse_overwriting(outputs, inputs, "--model")


def test_a_folder_that_is_linked_hides_nothing(scan, tmp_path):
    (tmp_path / "out").symlink_to(scan.parent)
    with pytest.raises(OptionError):
        refuse_overwriting([tmp_path / "out" / "scan.nii.gz"], [scan])
    with pytest.raises(OptionError):
        refuse_overwriting([tmp_path / "out" / ".." / "data"], [scan.parent])


def test_a_name_that_differs_in_case_is_the_same_file_where_the_file_system_says_so(scan, monkeypatch):
    upper = scan.with_name("SCAN.nii.gz")
    refuse_overwriting([upper], [scan])
    # As on macOS and Windows.
    real_stat, real_lexists = os.stat, os.path.lexists
    monkeypatch.setattr(os, "stat", lambda path, **how: real_stat(str(path).replace("SCAN", "scan"), **how))
    monkeypatch.setattr(os.path, "lexists", lambda path: real_lexists(str(path).replace("SCAN", "scan")))
    with pytest.raises(OptionError, match="SCAN.nii.gz would replace what was given, .*scan.nii.gz"):
        refuse_overwriting([upper], [scan])


def test_new_files_beside_the_input_are_no_matter(scan):
    refuse_overwriting([scan.with_name("scan.png"), scan.parent / "new" / "scan.nii.gz"], [scan, scan.parent])


def test_the_files_of_a_folder_are_all_those_below_it(scan, tmp_path):
    assert files_in(tmp_path) == [scan] and files_in(tmp_path / "nowhere") == []


# Every command


@pytest.fixture
def unharmed():
    """Runs a command that must be refused with both names; every file of the folder stays as it is."""

    def run(command, config, folder, *names):
        before = {path: path.read_bytes() for path in files_in(folder)}
        with pytest.raises(OptionError) as refusal:
            command(config)
        assert "would replace what was given" in str(refusal.value)
        assert all(str(name) in str(refusal.value) for name in names), refusal.value
        assert {path: path.read_bytes() for path in files_in(folder)} == before

    return run


@pytest.fixture
def project(data, shards, runs, tmp_path):
    """A copy of data, shard set and runs."""
    for name, folder in {"data": data, "set": shards, **runs}.items():
        shutil.copytree(folder, tmp_path / name)
    return tmp_path


def test_predict_keeps_scans_model_and_boxes(project, unharmed, monkeypatch):
    from kitsam.inference.config import PredictConfig
    from kitsam.inference.predict import run

    monkeypatch.chdir(project)
    shutil.copy("data/case_00000/imaging.nii.gz", "scan.nii.gz")
    scan, model = Path("scan.nii.gz"), project / "model.safetensors"
    model.write_bytes(b"")
    unharmed(run, PredictConfig([scan], model, Path()), project, "scan.nii.gz")
    unharmed(run, PredictConfig([scan], model, Path(), overwrite=True), project, "scan.nii.gz")
    (project / "out").mkdir()
    (boxes := project / "out" / "scan.json").write_text('{"scan": []}')
    unharmed(run, PredictConfig([scan], model, Path("out"), boxes), project, boxes)
    boxes.unlink()
    model.rename(model := project / "out" / "scan.png")
    unharmed(run, PredictConfig([scan], model, Path("out")), project, model)


def test_embed_keeps_data_and_split(project, unharmed):
    from kitsam.embedding.run import run

    data = project / "data"
    unharmed(run, embed_config(data, data), project, data)
    (data / "new").mkdir()
    (splits := data / "new" / "splits.json").write_text("{}")
    unharmed(run, embed_config(data, data / "new", splits=splits), project, splits)


def test_evaluate_keeps_data_set_runs_and_label_maps(project, unharmed):
    from kitsam.evaluation.config import EvaluateConfig
    from kitsam.evaluation.evaluate import run

    def config(out):
        return EvaluateConfig(str(project / "set"), project / "data", out, project / "roi", project / "tumor")

    for name in ("data", "set", "roi", "tumor"):
        unharmed(run, config(project / name), project, project / name)
    # A folder of label maps that is the data set's own, linked.
    labels = project / "nnunet" / "labelsTr"
    labels.mkdir(parents=True)
    for name in ("case_00000", "case_00001", "case_00002", "case_00003"):
        shutil.copy(project / "data" / name / "segmentation.nii.gz", labels / f"{name}.nii.gz")
    (project / "given").mkdir()
    (project / "given" / "predictions").symlink_to(labels)
    unharmed(
        run,
        EvaluateConfig(str(project / "set"), labels.parent, project / "given", project / "roi"),
        project,
        labels / "case_00000.nii.gz",
    )


def test_score_keeps_what_it_compares_and_the_results_of_an_evaluation(project, unharmed):
    from kitsam.evaluation.config import ScoreConfig
    from kitsam.evaluation.score import run

    data, results, other = project / "data", project / "results", project / "other"
    for folder in (results / "predictions", other):
        folder.mkdir(parents=True)
        for number in range(4):
            name = f"case_{number:05d}"
            shutil.copy(data / name / "segmentation.nii.gz", folder / f"{name}.nii.gz")
    (results / "metrics.json").write_text("{}")
    unharmed(run, ScoreConfig(results, data, results, workers=1), project, results / "metrics.json")
    unharmed(run, ScoreConfig(results, data, other, against=other, workers=1), project, other)
    # Beside the label maps is a fine place for their scores, again and again.
    for _ in range(2):
        assert run(ScoreConfig(other, data, other, workers=1)) == 0
    unharmed(run, ScoreConfig(results, data, other, against=other, workers=1), project, other)


def test_bundle_keeps_the_files_of_its_runs(project, unharmed):
    from kitsam.inference.bundle import run
    from kitsam.inference.config import BundleConfig

    for name in ("decoder.safetensors", "config.yaml", "metrics.jsonl"):
        out = project / "roi" / name
        unharmed(run, BundleConfig(project / "roi", out, project / "tumor"), project, out)
    out = next((project / "tumor" / "checkpoints").rglob("*.safetensors"))
    unharmed(run, BundleConfig(project / "roi", out, project / "tumor"), project, out)
    for _ in range(2):
        assert run(BundleConfig(project / "roi", project / "roi" / "kidney.safetensors")) == 0


def test_report_keeps_all_it_is_written_from(project, unharmed):
    from kitsam.evaluation.config import ScoreConfig
    from kitsam.evaluation.score import run as score
    from kitsam.report.config import ReportConfig
    from kitsam.report.page import run

    data, results = project / "data", project / "results"
    results.mkdir()
    shutil.copy(data / "case_00000" / "segmentation.nii.gz", results / "case_00000.nii.gz")
    assert score(ScoreConfig(results, data, results, only_present=True, workers=1)) == 0
    for out in (results / "metrics.json", results / "metrics.csv", data / "case_00000" / "imaging.nii.gz"):
        unharmed(run, ReportConfig([results], out), project, out)
    for _ in range(2):
        assert run(ReportConfig([results])) == run(ReportConfig([results], results / "again.html")) == 0


def test_fingerprint_keeps_the_data(project, unharmed):
    from kitsam.ct.config import FingerprintConfig
    from kitsam.ct.fingerprint import run

    (out := project / "out").mkdir()
    (out / "fingerprint.json").symlink_to(project / "data" / "case_00000" / "imaging.nii.gz")
    unharmed(run, FingerprintConfig(project / "data", out), project, out / "fingerprint.json")


@pytest.mark.parametrize("ending", ["", ".part"])
def test_weights_keep_a_source_that_lies_in_the_cache(tmp_path, unharmed, monkeypatch, ending):
    from kitsam.sam.checkpoints import CHECKPOINTS
    from kitsam.sam.config import WeightsConfig
    from kitsam.sam.weights import run

    monkeypatch.setenv("KITSAM_CACHE", str(tmp_path))
    path = CHECKPOINTS["vit_b"].path
    source = path.with_name(f"{path.name}{ending}")
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_bytes(b"weights")
    (source.parent / f".{path.name}.lock").touch()
    unharmed(run, WeightsConfig("vit_b", str(source)), tmp_path, source)


def test_phantom_keeps_scans_that_cannot_be_read(tmp_path):
    from kitsam.phantom.cases import run
    from kitsam.phantom.config import PhantomConfig

    scan = tmp_path / "case_00000" / "imaging.nii.gz"
    scan.parent.mkdir()
    (tmp_path / ".DS_Store").touch()
    content = bytearray(gzip.compress(bytes(range(256)) * 40))
    content[20] ^= 255
    scan.write_bytes(content)
    with pytest.raises(OptionError, match="was not made by `kitsam phantom`"):
        run(PhantomConfig(tmp_path, cases=1, size=32, slices=6))
    assert scan.read_bytes() == content
