import os
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from rounding import assert_close_to_rounding, roundings
from starting import Started, torchrun
from tiny import EMBED_WORDS, embed_config, write_cases

from kitsam.ct.case import find_cases, read_case
from kitsam.ct.strata import stratum_of
from kitsam.ct.views import View
from kitsam.embedding import run as embedding
from kitsam.sam.encoder import build_encoder
from kitsam.sam.encoding import SliceEncoder
from kitsam.shards.manifest import read_manifest
from kitsam.shards.order import SampleAddress
from kitsam.shards.reader import ShardSet
from kitsam.system.errors import KitsamError, OptionError


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def training_samples(shards: Path):
    whole = ShardSet(shards)
    for number, entry in enumerate(whole.manifest.train):
        yield entry, whole.read([SampleAddress(number, sample) for sample in range(entry.samples)])


def test_every_slice_with_kidney_is_taken_and_as_many_without(data, shards):
    manifest = read_manifest(shards)
    kept = {}
    for _, samples in training_samples(shards):
        for record in samples.records:
            kept.setdefault(record.case, set()).add((record.slice, record.view))
    files = find_cases(data)
    assert set(kept) == set(manifest.split.train)
    for name, places in kept.items():
        positive = np.flatnonzero(read_case(files[name]).label.any(axis=(1, 2)))
        slices = {z for z, _ in places}
        assert set(positive) <= slices and len(slices) == min(10, 2 * len(positive))
        assert places == {(z, view) for z in slices for view in range(2)}


def test_validation_holds_all_slices_in_order_and_plain(data, shards):
    whole = ShardSet(shards)
    for entry in whole.manifest.val:
        samples = whole.validation_slices(entry, 0, 100)
        assert [(record.slice, record.view) for record in samples.records] == [(z, 0) for z in range(10)]
        case = read_case(find_cases(data)[samples.records[0].case])
        assert np.array_equal(np.stack(samples.masks), case.label)


def test_a_shard_holds_one_stratum_and_records_say_the_truth(shards):
    for entry, samples in training_samples(shards):
        for record, mask in zip(samples.records, samples.masks):
            assert record.pixels == tuple(np.bincount(mask.ravel(), minlength=4))
            assert record.stratum == entry.stratum == stratum_of(record.pixels)


def test_slices_of_a_case_are_scattered_over_a_groups_shards(shards):
    cases = {entry.name: {record.case for record in samples.records} for entry, samples in training_samples(shards)}
    assert any(len(names) == 2 for names in cases.values())


def test_stored_embeddings_are_the_encoders(data, shards, device):
    config = embed_config(data, shards)
    encoder, _ = build_encoder(config.encoder)
    encode = SliceEncoder(encoder, config.input, False, device, batch_size=2)
    whole = ShardSet(shards)
    entry = whole.manifest.val[0]
    samples = whole.validation_slices(entry, 3, 2)
    image = torch.from_numpy(read_case(find_cases(data)[samples.records[0].case]).image).to(device)
    expected = encode(image, [3, 4], [View(), View()])
    # Rounded to float16 once, and on a GPU in each convolution before.
    convolutions = roundings(encoder.vit, device)[0] if device.type == "cuda" else 0
    assert_close_to_rounding(samples.stored, expected, 1 + convolutions, torch.float16)


def test_started_again_nothing_changes(data, shards, tmp_path):
    copy = tmp_path / "set"
    shutil.copytree(shards, copy)
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*.tar")}
    assert embedding.run(embed_config(data, copy)) == 0
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*.tar")} == before
    assert files_of(copy) == files_of(shards)


def test_what_is_missing_is_made_again_byte_for_byte(data, shards, tmp_path):
    copy = tmp_path / "set"
    shutil.copytree(shards, copy)
    tars = sorted(copy.rglob("*.tar"))
    tars[0].unlink()
    tars[-1].with_suffix(".json").unlink()
    (copy / "manifest.json").unlink()
    leftover = copy / "train" / ".tmp-1-kidney-0000-00.tar"  # an earlier version's
    leftover.write_bytes(b"half")
    os.utime(leftover, (0, 0))
    assert embedding.run(embed_config(data, copy)) == 0
    assert files_of(copy) == files_of(shards)


def test_two_processes_make_the_same_bytes(pair, shards):
    assert files_of(pair.shards) == files_of(shards)


def test_a_process_that_dies_ends_all_and_another_number_makes_the_same_bytes(data, shards, tmp_path):
    """Process 1 is killed while it writes its first shard."""
    (tmp_path / "sitecustomize.py").write_text(KILL_PROCESS_1)
    out = tmp_path / "set"
    command = torchrun(2, "embed", *EMBED_WORDS, "--data", data, "--out", out)
    with Started(command, tmp_path / "log", PYTHONPATH=tmp_path) as started:
        assert started.wait() == 1
    assert not (out / "manifest.json").exists()
    assert embedding.run(embed_config(data, out)) == 0
    assert files_of(out) == files_of(shards)


# Python runs a module of this name before anything else.
KILL_PROCESS_1 = """
import os, pathlib, signal, sys, threading, time

def watch():
    folder = pathlib.Path(sys.orig_argv[sys.orig_argv.index("--out") + 1])
    while not any(path.name.startswith(".tmp-") and f"-{os.getpid()}-" in path.name for path in folder.glob("*/*")):
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)

if os.environ.get("RANK") == "1":
    threading.Thread(target=watch, daemon=True).start()
"""


def test_killed_in_the_middle_and_started_again_gives_the_same_set(data, shards, tmp_path):
    out = tmp_path / "set"
    with Started(["kitsam", "embed", *EMBED_WORDS, "--data", data, "--out", out], tmp_path / "log") as started:
        started.wait_until(lambda: list(out.glob("*/*.tar")))
        started.process.send_signal(signal.SIGKILL)
        assert started.wait() == -signal.SIGKILL
    assert not (out / "manifest.json").exists()
    with pytest.raises(OptionError, match="no finished shard set"):
        read_manifest(out)
    assert embedding.run(embed_config(data, out)) == 0
    assert files_of(out) == files_of(shards)


def test_a_bad_case_is_left_out_named_and_taken_once_mended(tmp_path, capsys):
    data, out = write_cases(tmp_path / "data", 5), tmp_path / "set"
    config = embed_config(data, out, val_fraction=0.4)
    imaging = data / "case_00001" / "imaging.nii.gz"
    whole = imaging.read_bytes()
    imaging.write_bytes(whole[: len(whole) // 2])
    (data / "case_00004" / "segmentation.nii.gz").rename(tmp_path / "kept.nii.gz")
    assert embedding.run(config) == 1
    manifest = read_manifest(out)
    assert set(manifest.skipped) == {"case_00001", "case_00004"}
    assert "case_00001/imaging.nii.gz" in manifest.skipped["case_00001"]
    assert "case_00001" in capsys.readouterr().err
    imaging.write_bytes(whole)
    (tmp_path / "kept.nii.gz").rename(data / "case_00004" / "segmentation.nii.gz")
    assert embedding.run(config) == 0
    assert read_manifest(out).skipped == {}
    fresh = tmp_path / "fresh"
    assert embedding.run(embed_config(data, fresh, val_fraction=0.4)) == 0
    assert files_of(fresh) == files_of(out)


def test_other_settings_in_the_same_folder_are_refused(data, shards, tmp_path):
    copy = tmp_path / "set"
    shutil.copytree(shards, copy)
    with pytest.raises(OptionError, match="--out: .*begun with other settings: seed 0, now 1"):
        embedding.run(embed_config(data, copy, seed=1))
    assert files_of(copy) == files_of(shards)


def test_a_dry_run_says_what_an_embed_then_writes_and_writes_nothing(data, shards, tmp_path, capsys):
    assert embedding.run(embed_config(data, tmp_path / "set", dry_run=True)) == 0
    assert not (tmp_path / "set").exists()
    text = capsys.readouterr().out
    assert "balance" not in text
    manifest = read_manifest(shards)
    assert number_after("slices", text) == sum(entry.samples for entry in (*manifest.train, *manifest.val))
    assert number_after("shards", text) == len(list(shards.rglob("*.tar")))
    written = sum(path.stat().st_size for path in shards.rglob("*") if path.is_file())
    # Enough for the disk's check before the start, and no more than the allowance for headers, records and masks.
    assert written <= number_after("bytes", text) <= 1.25 * written
    assert " min " in text


def test_a_dry_run_says_how_evenly_processes_would_share_the_work(data, tmp_path, capsys):
    assert embedding.run(embed_config(data, tmp_path / "set", dry_run=True, processes=3, batch_size=2)) == 0
    text = capsys.readouterr().out
    slices, largest = number_after("slices", text), number_after("the largest share is", text)
    assert f"{slices / 3 / largest:.1%} of ideal" in text and "3 processes" in text


def number_after(name: str, table: str) -> int:
    return int(re.search(rf"{name}\W+([\d,]+)", table)[1].replace(",", ""))


def test_a_disk_too_small_is_told_before_the_start(data, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000})())
    with pytest.raises(KitsamError, match="needs .* has 0.0 MiB free"):
        embedding.run(embed_config(data, tmp_path / "set"))
    assert not list((tmp_path / "set").glob("*/*.tar"))
