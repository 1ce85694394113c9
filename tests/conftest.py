"""Tiny real objects, made once: cases on disk, a shard set, three short runs."""

from pathlib import Path

import pytest
from tiny import embed_config, train_config, write_cases


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """Four cases in the KiTS layout."""
    return write_cases(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def shards(data, tmp_path_factory) -> Path:
    """Their embeddings by the tiny encoder; not to be changed."""
    from kitsam.embedding import run as embedding

    out = tmp_path_factory.mktemp("shards") / "set"
    assert embedding.run(embed_config(data, out)) == 0
    return out


@pytest.fixture(scope="session")
def runs(shards, tmp_path_factory) -> dict[str, Path]:
    """A short run of each decoder; not to be changed."""
    from kitsam.training import loop

    folder = tmp_path_factory.mktemp("runs")
    for target in ("roi", "tumor", "cyst"):
        assert loop.run(train_config(target, shards, folder / target)) == 0
    return {target: folder / target for target in ("roi", "tumor", "cyst")}
