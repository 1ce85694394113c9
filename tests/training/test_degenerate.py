"""Data from which nothing can be learned, or on which nothing can be measured, and decoders that find nothing."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import embed_config, train_config
from trained import lines

from kitsam.cli import main
from kitsam.ct.labels import TARGETS
from kitsam.decoding.training_log import read_log
from kitsam.shards.manifest import read_manifest, write_manifest
from kitsam.system.errors import OptionError
from kitsam.training import loop
from kitsam.training.checkpoint import Progress
from kitsam.training.validation import ValidationDice

WITH_CYST, WITHOUT_CYST = ["case_00000", "case_00002", "case_00004"], ["case_00001", "case_00003"]


@pytest.fixture(scope="module")
def folds(data, once) -> Path:
    """A set of two folds: in the first only validation cases have cysts, in the second only training cases."""
    from kitsam.embedding import run as embedding

    def embed(folder: Path) -> None:
        sides = [(WITHOUT_CYST, WITH_CYST), (WITH_CYST, WITHOUT_CYST)]
        (folder / "splits.json").write_text(json.dumps([{"train": train, "val": val} for train, val in sides]))
        assert embedding.run(embed_config(data, folder / "set", folds=2, splits=folder / "splits.json")) == 0

    return once("folds-by-cyst", embed) / "set"


def cyst_config(shards: Path, out: Path, **changes):
    return train_config("cyst", shards, out, **{"quotas": "natural", **changes})


def test_a_decoder_whose_target_no_training_slice_holds_is_refused(folds, tmp_path):
    expected = f"--target: no slice of the training cases of {folds}, fold 0, holds cyst"
    with pytest.raises(OptionError, match=expected):
        loop.run(cyst_config(folds, tmp_path / "run", fold=0))
    assert not (tmp_path / "run").exists()


def test_shares_that_leave_the_target_out_are_refused(shards, tmp_path):
    with pytest.raises(OptionError, match="--quotas: no share for any slice with tumor"):
        loop.run(train_config("tumor", shards, tmp_path / "run", quotas={"kidney": 1, "cyst": 1}))


def test_without_the_target_in_validation_there_is_no_dice_and_the_last_decoder_is_kept(folds, tmp_path, capsys):
    run = tmp_path / "run"
    assert loop.run(cyst_config(folds, run, fold=1)) == 0
    out, err = capsys.readouterr()
    assert "no validation case holds cyst: the last decoder will be kept" in err
    assert "Nothing is known of the decoder of step 6" in out and "Best validation" not in out
    dice = [(line["val_dice"], line["val_dice_pooled"]) for line in lines(run) if "val_dice" in line]
    assert dice == [(None, None)] * 2 and read_log(run).best is None
    assert loop.run(cyst_config(folds, run, fold=1)) == 0
    assert "The run is finished, step 6. Nothing is known of the decoder" in capsys.readouterr().out


def test_a_share_for_slices_that_are_not_there_is_said(folds, tmp_path, capsys):
    loop.run(cyst_config(folds, tmp_path / "run", fold=1, steps=1, quotas={"cyst": 1, "tumor_cyst": 1}))
    assert "--quotas: no training slice of cyst: the batches hold more of the others" in capsys.readouterr().err


def test_the_last_of_decoders_that_find_nothing_is_kept_and_called_so(shards, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "validate", lambda *rest: ValidationDice(0.5, 0.0, finds=False))
    loop.run(train_config("tumor", shards, tmp_path / "run"))
    out = capsys.readouterr().out
    assert "Best validation Dice 0.0000 at step 6, it finds nothing in the validation cases" in out


@pytest.mark.parametrize(
    ("scores", "best_step", "stale"),
    [
        ([0.1, 0.3, 0.2, 0.3], 2, 2),  # the first of equals
        ([0.0, 0.0, 0.0], 3, 2),  # the last of those that find nothing
        ([0.0, 0.2, 0.0], 2, 1),
        ([None, None], 2, 0),  # nothing is known of any: the last, and patience waits
    ],
)
def test_which_decoder_is_kept(scores, best_step, stale):
    state = Progress()
    for state.step, score in enumerate(scores, 1):
        loop._note_score(state, score)
    assert (state.best_step, state.stale) == (best_step, stale)


def test_saying_nothing_is_never_the_best_answer():
    """Where half of the cases have no cyst, nothing at all has a mean Dice of 0.5."""
    silent, poor = ValidationDice(0.5, 0.0, finds=False), ValidationDice(0.2, 0.3, finds=True)
    assert silent.score("dice") == 0 < poor.score("dice") == 0.2
    assert silent.score("dice_pooled") == 0 < poor.score("dice_pooled") == 0.3


@pytest.mark.parametrize("strata", [{"cyst": 1}, {"tumor_cyst": 1}, {}])
def test_a_set_says_which_decoders_cannot_be_trained_on_it(shards, tmp_path, strata, capsys):
    manifest = read_manifest(shards)
    none = dict.fromkeys(manifest.strata, 0)
    write_manifest(tmp_path, replace(manifest, strata={**none, **strata}))
    assert main(["shards", "info", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    said = {target for target in TARGETS if f"no {target} decoder can be trained on it" in out}
    assert said == {(): {*TARGETS}, ("cyst",): {"tumor"}, ("tumor_cyst",): set()}[tuple(strata)]
