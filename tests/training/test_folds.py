"""A fold of a set that was embedded once, against a set that was embedded with that split."""

import pytest
from tiny import embed_config, train_config
from trained import lines, same_bits

from kitsam.ct.split import write_split
from kitsam.embedding import run as embedding
from kitsam.shards.reader import ShardSet
from kitsam.training import loop


@pytest.mark.parametrize("group_cases", [2, 5])
def test_a_fold_learns_what_a_set_with_its_split_teaches(data, tmp_path, group_cases):
    folds, split = tmp_path / "folds", tmp_path / "split"
    options = {"group_cases": group_cases, "shard_samples": 64}
    assert embedding.run(embed_config(data, folds, folds=5, **options)) == 0
    write_split(tmp_path / "splits.json", ShardSet(folds, fold=2).manifest.split)
    assert embedding.run(embed_config(data, split, splits=tmp_path / "splits.json", **options)) == 0

    loop.run(train_config("tumor", folds, tmp_path / "fold", fold=2))
    loop.run(train_config("tumor", split, tmp_path / "alone"))

    assert lines(tmp_path / "fold") == lines(tmp_path / "alone")
    assert same_bits(tmp_path / "fold", tmp_path / "alone")
