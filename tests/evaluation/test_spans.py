"""Cases that several processes label in spans: all slices once, evenly, and the labels of one process."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import CASCADE, evaluate_config
from trained import with_detail

from kitsam.evaluation import decoders
from kitsam.evaluation import evaluate as evaluator
from kitsam.evaluation.spans import share_cases
from kitsam.inference.config import CascadeConfig
from kitsam.sam.decoder import random_decoder
from kitsam.system.shares import Part, balance


@given(st.lists(st.integers(0, 90), max_size=8), st.integers(1, 9), st.integers(1, 20))
def test_all_slices_are_shared_out_once_and_in_whole_batches(slices, batch_size, processes):
    shares = share_cases(slices, batch_size, processes)
    parts = list(chain.from_iterable(shares))
    assert len(shares) == processes and all(part.first % batch_size == 0 for part in parts)
    for case, count in enumerate(slices):
        own = [part for part in parts if part.item == case]
        assert [own[0].first, *(part.stop for part in own)] == [*(part.first for part in own), count]
    assert parts == sorted(parts)
    batches = sum(-(-count // batch_size) for count in slices)
    loads = [sum(-(-(part.stop - part.first) // batch_size) for part in share) for share in shares]
    assert all(load <= batches / processes + 1 for load in loads)


def test_many_processes_have_the_same_work_to_do_whatever_the_longest_case():
    slices = np.clip(np.exp(np.random.default_rng(0).normal(4.9, 0.75, 48)), 29, 1059).astype(int).tolist()
    slices.append(1059)
    loads = [sum(part.stop - part.first for part in share) for share in share_cases(slices, 4, 64)]
    assert balance(loads) > 0.95
    assert balance([max(slices), *[0] * 63]) < 0.02


def files_of(out: Path) -> dict[str, bytes]:
    """Scores, label maps and what decoders answered."""
    paths = out / "metrics.csv", *sorted(out.glob("predictions/*")), *sorted(out.glob("cases/*"))
    return {path.name: path.read_bytes() for path in paths}


@pytest.mark.parametrize(
    ("zero_shot", "second_look", "detail"),
    [(False, False, False), (False, True, False), (False, False, True), (True, False, False)],
)
def test_labels_in_spans_are_those_of_whole_cases(
    zero_shot, second_look, detail, data, shards, runs, tmp_path, monkeypatch
):
    def initial_decoder(config, shards, option):
        return random_decoder(shards.manifest.grid, shards.manifest.input_size, 0)

    monkeypatch.setattr(decoders, "_initial_decoder", initial_decoder)
    given = {"zero_shot": True} if zero_shot else runs
    if detail:
        given = {**runs, "tumor": with_detail(runs["tumor"], tmp_path / "tumor")}
    cascade = CascadeConfig(**CASCADE, second_look=second_look, batch_size=2)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert evaluator.run(evaluate_config(data, shards, given, whole, cascade=cascade)) == 0
    shared = []

    def shares_of_five(slices: list[int], batch_size: int, _: int) -> list[list[Part]]:
        shared.extend(chain.from_iterable(share_cases(slices, batch_size, 5)))
        return [shared]

    monkeypatch.setattr(evaluator, "share_cases", shares_of_five)
    assert evaluator.run(evaluate_config(data, shards, given, parts, cascade=cascade)) == 0
    assert len(shared) >= 5 and any(part.first for part in shared)
    assert len(files_of(parts)) == 5 and files_of(parts) == files_of(whole)
    assert not (parts / "spans").exists()
