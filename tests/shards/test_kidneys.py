"""Boxes around kidneys: from the index, or looked for once and kept."""

import json
import os
import shutil
import stat

import numpy as np
import pytest
from format_one import as_format_one

from kitsam.ct.instances import find_instances
from kitsam.decoding.config import PromptConfig
from kitsam.shards import kidneys
from kitsam.shards.kidneys import KidneyBoxes
from kitsam.shards.reader import Samples, ShardSet

PROMPT = PromptConfig()
OTHER = 3.0, 60.0  # mm, mm2: other settings than the set's


def all_samples(shards: ShardSet) -> list[Samples]:
    entries = (*shards.manifest.train, *shards.manifest.val)
    return [shards.validation_slices(entry, 0, entry.samples) for entry in entries]


def expected(samples: Samples, merge: float, smallest: float) -> list[np.ndarray]:
    return [
        find_instances((mask > 0)[None], record.pixel_of(mask), merge, smallest).boxes
        for mask, record in zip(samples.masks, samples.records)
    ]


def assert_right(boxes: KidneyBoxes) -> None:
    count = 0
    for samples in all_samples(boxes.shards):
        for found, right in zip(boxes.of(samples), expected(samples, boxes.merge, boxes.smallest), strict=True):
            assert found.dtype == np.float32 and found.shape[1:] == (4,) and np.array_equal(found, right)
            count += len(found)
    assert count


@pytest.fixture
def copy(shards, tmp_path):
    return shutil.copytree(shards, tmp_path / "set")


@pytest.fixture
def lost(monkeypatch):
    """Nothing can be looked for any more."""

    def refuse(*arguments):
        raise AssertionError("looked for again")

    return lambda: monkeypatch.setattr(kidneys, "kidney_boxes", refuse)


def kept(folder) -> list:
    return sorted(folder.glob("*/*.kidneys-*.json"))


def test_the_index_has_those_of_the_set_s_own_settings(copy, lost):
    lost()
    assert_right(KidneyBoxes(ShardSet(copy), PROMPT.merge, PROMPT.smallest))
    assert not kept(copy)


@pytest.mark.parametrize("settings", [OTHER, (PROMPT.merge, PROMPT.smallest)])
def test_others_and_those_of_format_1_are_looked_for_once_and_kept_beside_the_set(shards, tmp_path, settings, lost):
    folder = as_format_one(shards, tmp_path / "old")
    assert_right(KidneyBoxes(ShardSet(folder), *settings))
    whole = ShardSet(folder)
    assert len(kept(folder)) == len(whole.manifest.train) + len(whole.manifest.val)
    lost()
    assert_right(KidneyBoxes(ShardSet(folder), *settings))


def test_what_is_kept_of_another_tar_or_damaged_is_not_taken(copy):
    assert_right(KidneyBoxes(ShardSet(copy), *OTHER))
    first, second, *_ = kept(copy)
    content = json.loads(first.read_text())
    first.write_text(json.dumps({**content, "sha256": "0" * 64, "kidneys": []}))
    second.write_text("{")
    assert_right(KidneyBoxes(ShardSet(copy), *OTHER))
    assert json.loads(first.read_text()) == content


def test_a_set_that_nobody_may_write_to_is_looked_through_once_a_process(copy, monkeypatch, lost):
    def full(*arguments):
        raise kidneys.KitsamError("no space")

    monkeypatch.setattr(kidneys, "write_json", full)
    boxes = KidneyBoxes(ShardSet(copy), *OTHER)
    assert_right(boxes)
    lost()
    assert_right(boxes)
    assert not kept(copy)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_the_right_to_write_is_read_all_the_same(copy):
    for folder in (copy / "train", copy / "val"):
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert_right(KidneyBoxes(ShardSet(copy), *OTHER))
    for folder in (copy / "train", copy / "val"):
        folder.chmod(stat.S_IRWXU)
