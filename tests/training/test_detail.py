import shutil

import numpy as np
import pytest
import torch
import yaml
from tiny import embed_config, train_config
from trained import break_at, same_bits, weights

from kitsam.ct.strata import strata_for
from kitsam.decoding.detail import measure
from kitsam.decoding.runs import load_run
from kitsam.embedding import run as embedding
from kitsam.shards.masks import decode_picture
from kitsam.shards.reader import ShardSet
from kitsam.system.errors import OptionError
from kitsam.training import detail, loop


@pytest.fixture(scope="module")
def shards_with_ct(data, once):
    return once("shards_with_ct", lambda out: embedding.run(embed_config(data, out / "set", keep_ct=True))) / "set"


@pytest.fixture(scope="module")
def run_with_detail(shards_with_ct, once):
    folder = once(
        "run_with_detail", lambda out: loop.run(train_config("tumor", shards_with_ct, out / "run", detail=True))
    )
    return folder / "run"


def test_networks_tell_tumor_from_kidney_on_cases_that_they_have_not_seen(shards_with_ct, run_with_detail):
    shards, nets = ShardSet(shards_with_ct), load_run(run_with_detail, "tumor").detail
    said = {False: [], True: []}
    for shard in shards.manifest.val:
        with shards.source.open(shard.name, shard.sha256) as file:
            for entry, labels in zip(shards.index(shard).samples, shards.labels(shard)):
                file.seek(entry.ct[0])
                gray = decode_picture(file.read(entry.ct[1]), "test")
                roi = labels.mask > 0
                logits = nets(measure(torch.tensor(gray), torch.from_numpy(roi), labels.record.pixel_of(gray)[0]))
                for is_tumor in said:
                    said[is_tumor] += logits[torch.from_numpy((labels.mask == 2)[roi]) == is_tumor].tolist()
    # Every second pixel of the drawn tumors lies at an edge.
    assert np.median(said[True]) > 1 and np.median(said[False]) < -1


def test_the_same_run_has_the_same_bits_also_where_it_was_cut_short(shards_with_ct, run_with_detail, tmp_path):
    config = train_config("tumor", shards_with_ct, tmp_path / "run", detail=True)
    with break_at(5):
        loop.run(config)
    assert loop.run(config) == 0
    assert same_bits(tmp_path / "run", run_with_detail)
    assert any(name.startswith("detail.2.layers") for name in weights(run_with_detail))


def test_the_decoder_is_that_of_a_run_without_detail(runs, run_with_detail):
    plain, both = weights(runs["tumor"]), weights(run_with_detail)
    assert all(torch.equal(plain[name], both[name]) for name in plain)


def test_pixels_are_drawn_so_that_cases_count_alike(shards_with_ct):
    shards = ShardSet(shards_with_ct)
    order = shards.order("natural", 4, 0, strata_for("tumor"))
    addresses = detail._first_slices(order)
    assert len(set(addresses)) == len(addresses) == sum(len(some) for some in order.addresses())
    pixels = detail._draw_pixels(shards, addresses, "tumor", 0)
    assert len(pixels.measures) == len(pixels.targets) == len(pixels.weights)
    assert pixels.weights.sum().item() == pytest.approx(len(set(shards.cases(addresses))), rel=1e-4)
    assert 0 < pixels.targets.mean() < 1


def test_a_set_without_ct_and_the_roi_decoder_are_refused(shards, tmp_path):
    with pytest.raises(OptionError, match=r"--detail: .*keeps no CT: embed it with --keep-ct"):
        loop.run(train_config("tumor", shards, tmp_path / "run", detail=True))
    with pytest.raises(OptionError, match="--detail: for lesion decoders"):
        loop.run(train_config("roi", shards, tmp_path / "run", detail=True))
    assert not (tmp_path / "run").exists()


def test_a_run_of_a_version_without_them_goes_on(shards, runs, tmp_path):
    run = shutil.copytree(runs["tumor"], tmp_path / "run")
    options = yaml.safe_load((run / "config.yaml").read_text())
    del options["detail"]
    (run / "config.yaml").write_text(yaml.safe_dump(options))
    assert loop.run(train_config("tumor", shards, run)) == 0
