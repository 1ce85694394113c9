"""The number format of a set: measured once where it is left open, and kept whatever another machine would measure."""

import json
import shutil

import pytest
from tiny import embed_config

from kitsam.embedding import run as embedding
from kitsam.embedding import settings
from kitsam.shards.manifest import read_manifest
from kitsam.system.errors import OptionError


def refuse(*_):
    raise AssertionError("measured again")


def test_a_set_keeps_the_format_that_was_measured_first(data, shards, tmp_path, monkeypatch):
    out = tmp_path / "set"
    monkeypatch.setattr(settings, "faster_format", lambda *_: "bf16")
    assert embedding.run(embed_config(data, out)) == 0
    assert read_manifest(out).embedding["precision"] == "bf16" != read_manifest(shards).embedding["precision"]
    assert json.loads((out / "plan.json").read_text())["settings"]["precision"] == "bf16"
    monkeypatch.setattr(settings, "faster_format", refuse)
    tar = next(out.glob("val/*.tar"))
    before = tar.read_bytes()
    assert before != (shards / "val" / tar.name).read_bytes()
    tar.unlink()
    assert embedding.run(embed_config(data, out)) == 0
    assert tar.read_bytes() == before
    with pytest.raises(OptionError, match="precision bf16, now fp32"):
        embedding.run(embed_config(data, out, precision="fp32"))


def test_a_format_that_is_named_is_not_measured(data, shards, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "faster_format", refuse)
    copy = shutil.copytree(shards, tmp_path / "set")
    assert embedding.run(embed_config(data, copy, precision="fp32")) == 0
    assert embedding.run(embed_config(data, tmp_path / "dry", precision="fp32", dry_run=True)) == 0
