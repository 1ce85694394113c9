"""A decoder is never asked about a scan that it has seen, whatever the scan, the set or the run is called."""

import json
import shutil

import pytest
from format_one import as_format_one
from tiny import embed_config, train_config

from kitsam.decoding.runs import CONFIG, DECODER, SHARD_SET, check_leak, each_run, load_run, load_runs
from kitsam.embedding import run as embedding
from kitsam.evaluation import evaluate
from kitsam.evaluation.config import EvaluateConfig
from kitsam.evaluation.results import read_metrics
from kitsam.inference import bundle
from kitsam.inference.config import BundleConfig
from kitsam.shards.reader import ShardSet
from kitsam.system.errors import KitsamError, OptionError
from kitsam.training import loop


@pytest.fixture(scope="module")
def other_split(data, shards, tmp_path_factory):
    """The same cases, split otherwise."""
    out = tmp_path_factory.mktemp("other") / "set"
    for seed in range(1, 9):
        assert embedding.run(embed_config(data, out.with_name(str(seed)), seed=seed)) == 0
        if ShardSet(out.with_name(str(seed))).manifest.split.val != ShardSet(shards).manifest.split.val:
            return out.with_name(str(seed))
    raise AssertionError("all seeds give one split")


def evaluate_config(shards, data, runs, out, **changes):
    return EvaluateConfig(str(shards), data, out, runs["roi"], runs["tumor"], runs["cyst"], device="cpu", **changes)


def test_a_decoder_says_what_it_was_trained_on(shards, runs):
    manifest = ShardSet(shards).manifest
    record = load_run(runs["tumor"], "tumor").shard_set
    assert record.fingerprint == manifest.fingerprint and record.fold is None
    assert record.train == {name: manifest.cases[name].imaging for name in manifest.split.train}
    assert record.val == {name: manifest.cases[name].imaging for name in manifest.split.val}


def test_evaluating_on_a_case_that_a_decoder_saw_is_refused(other_split, data, runs, tmp_path):
    names = "|".join(ShardSet(other_split).manifest.split.val)
    with pytest.raises(OptionError, match=f"--roi: .* was trained on ({names}), which validates in"):
        evaluate.run(evaluate_config(other_split, data, runs, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_scan_under_another_name_is_the_same_scan(data, shards, runs, tmp_path):
    renamed = tmp_path / "data"
    for folder in data.iterdir():
        shutil.copytree(folder, renamed / folder.name.replace("case", "patient"))
    trained = ShardSet(shards).manifest.split.train
    for seed in range(9):
        out = tmp_path / str(seed)
        embedding.run(embed_config(renamed, out, seed=seed))
        manifest = ShardSet(out).manifest
        names = [name for name in manifest.split.val if name.replace("patient", "case") in trained]
        if names:
            break
    with pytest.raises(OptionError, match=f"was trained on {names[0]}, which validates"):
        check_leak(load_run(runs["roi"], "roi"), manifest, "roi", out)


def test_in_sets_of_format_1_a_name_stands_for_the_scan(other_split, shards, runs, tmp_path):
    old = ShardSet(as_format_one(other_split, tmp_path / "old"))
    with pytest.raises(OptionError, match="was trained on"):
        check_leak(load_run(runs["roi"], "roi"), old.manifest, "roi", "old")
    same = ShardSet(as_format_one(shards, tmp_path / "same"))
    check_leak(load_run(runs["roi"], "roi"), same.manifest, "roi", "same")


def test_a_run_does_not_go_on_with_another_set_but_with_a_moved_one(other_split, shards, runs, tmp_path):
    run = shutil.copytree(runs["roi"], tmp_path / "run")
    with pytest.raises(OptionError, match="--shards: .* holds a run on another shard set"):
        loop.run(train_config("roi", other_split, run))
    moved = shutil.copytree(shards, tmp_path / "elsewhere")
    assert loop.run(train_config("roi", moved, run)) == 0


def test_decoders_of_different_splits_do_not_go_together(other_split, runs, tmp_path):
    out = tmp_path / "tumor"
    loop.run(train_config("tumor", other_split, out, steps=1))
    with pytest.raises(OptionError, match="--tumor: .* was trained on another split than"):
        bundle.run(BundleConfig(runs["roi"], tmp_path / "x.safetensors", out))
    assert not (tmp_path / "x.safetensors").exists()


def test_folds_of_one_set_go_together_and_are_recorded(data, tmp_path):
    folds = tmp_path / "folds"
    assert embedding.run(embed_config(data, folds, folds=2)) == 0
    runs = {}
    for target, fold in (("roi", 0), ("tumor", 1)):
        runs[target] = tmp_path / target
        loop.run(train_config(target, folds, runs[target], steps=1, fold=fold))
    loaded = load_runs({target: [run] for target, run in runs.items()})
    assert [run.shard_set.fold for _, run in each_run(loaded)] == [0, 1]
    assert bundle.run(BundleConfig(runs["roi"], tmp_path / "x.safetensors", runs["tumor"])) == 0
    config = EvaluateConfig(str(folds), data, tmp_path / "out", runs["roi"], fold=0, device="cpu")
    assert evaluate.run(config) == 0
    settings = read_metrics(tmp_path / "out").settings
    assert settings["fold"] == 0 and settings["fingerprint"] == ShardSet(folds, fold=0).fingerprint
    with pytest.raises(OptionError, match="--tumor: .* was trained on"):
        evaluate.run(
            EvaluateConfig(str(folds), data, tmp_path / "no", runs["roi"], runs["tumor"], fold=0, device="cpu")
        )


def test_a_run_that_starts_from_another_has_seen_what_that_one_saw(other_split, shards, runs, tmp_path):
    with pytest.raises(OptionError, match="--start_from: .* was trained on .*, which validates in"):
        loop.run(train_config("tumor", other_split, tmp_path / "run", start_from=runs["roi"], steps=1))
    loop.run(train_config("tumor", shards, tmp_path / "good", start_from=runs["roi"], steps=1))
    assert load_run(tmp_path / "good", "tumor").shard_set.train == load_run(runs["roi"], "roi").shard_set.train


def test_labels_that_are_not_the_sets_are_refused_in_evaluation(shards, data, runs, tmp_path):
    name = ShardSet(shards).manifest.split.val[0]
    own = shutil.copytree(data, tmp_path / "data")
    donor = next(folder for folder in sorted(own.iterdir()) if folder.name != name)
    shutil.copy(donor / "segmentation.nii.gz", own / name / "segmentation.nii.gz")
    with pytest.raises(OptionError, match=f"--data: .*{name}/segmentation.nii.gz: not the labels"):
        evaluate.run(evaluate_config(shards, own, runs, tmp_path / "out"))


def test_a_run_of_an_older_version_is_still_read(runs, tmp_path):
    from safetensors.torch import save_file

    from kitsam.system.tensors import read_tensors

    run = shutil.copytree(runs["roi"], tmp_path / "run")
    save_file(read_tensors(run / DECODER).tensors, run / DECODER)
    content = json.loads((run / SHARD_SET).read_text())
    (run / SHARD_SET).write_text(json.dumps({name: content[name] for name in ("signature", "grid")}))
    assert load_run(run, "roi").prompt == load_run(runs["roi"], "roi").prompt


@pytest.mark.parametrize("text", [b"{", b"target: [", b"\xff\xfe", b"", b"[]", b"target: roi"])
def test_a_config_that_is_none_is_one_line(runs, tmp_path, text):
    run = shutil.copytree(runs["roi"], tmp_path / "run")
    (run / DECODER).unlink()
    (run / CONFIG).write_bytes(text)
    with pytest.raises(KitsamError, match=CONFIG):
        load_run(run, "roi")


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.bin", "state.json", "digests.json", "random_states_0.pkl"]
)
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_serves(shards, runs, tmp_path, name, damage):
    run = shutil.copytree(runs["roi"], tmp_path / "run")
    last = run / "checkpoints" / "step-000006"
    path = last / name
    data = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        middle = len(data) // 2
        path.write_bytes(
            data[:-5] if damage == "cut" else data[:middle] + bytes([data[middle] ^ 8]) + data[middle + 1 :]
        )
    with pytest.raises(KitsamError, match=f"{name}|digests.json"):
        loop.run(train_config("roi", shards, run))
    shutil.rmtree(last)
    assert loop.run(train_config("roi", shards, run)) == 0
    assert load_run(run, "roi").decoder.state_dict().keys() == load_run(runs["roi"], "roi").decoder.state_dict().keys()
