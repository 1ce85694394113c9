"""What many GPUs would do is computed from what one does, and says where each number comes from."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kitsam.bench import scale
from kitsam.bench.config import BenchScaleConfig
from kitsam.bench.costs import Cost, costs_of, h100
from kitsam.system.errors import KitsamError

MACHINE = {"cpu": "some processor", "gpu": "some GPU", "date": "2026-11-25"}


def write(path: Path, **figures) -> Path:
    path.write_text(json.dumps({"machine": MACHINE, **figures}))
    return path


@pytest.fixture(scope="module")
def work():
    return scale.work_of(scale.read_sizes(None), 1)


def test_costs_are_measured_given_or_computed_and_say_so(tmp_path):
    encoders = {"kitsam, fp32": {"images_per_second": 4.0}, "kitsam, bf16": {"images_per_second": 8.0}}
    encoder = write(tmp_path / "encoder.json", encoder="vit_b", chosen="bf16", encoders=encoders)
    modes = {"stock": {"steps_per_second": 9.0}, "kitsam, fp32": {"steps_per_second": 2.0}}
    decoder = write(tmp_path / "decoder.json", batch_size=32, decoders=modes)
    costs = costs_of(BenchScaleConfig(encoder=encoder, decoder=decoder))
    assert costs.slice == (0.125, "measured: vit_b in bf16, some GPU, 2026-11-25")
    assert costs.step.value == 1.0 and costs.answer.value == pytest.approx(1 / 64 / 3)
    parts = {"gradients": 0.1, "forward": 0.4}
    training = write(tmp_path / "training.json", batch_size=8, processes=2, seconds_per_step=0.6, parts=parts)
    costs = costs_of(BenchScaleConfig(training=training, slice_seconds=0.3, storage=2.0))
    assert costs.step.value == pytest.approx(8.0) and costs.exchange.value == 0.1
    assert costs.slice == (0.3, "given") and costs.storage.value == 2e9
    assert h100().slice.source.startswith("computed")


def test_shares_are_even_on_64_devices(work):
    assert scale.embed_rate(h100(), work, 64).balance > 0.92
    assert scale.evaluate_rate(h100(), work, 64).balance > 0.85  # in whole batches, of which each has some ten


def test_where_only_the_encoder_takes_time_efficiency_is_the_balance_of_the_shares(work):
    nothing = Cost(0.0, "")
    costs = replace(h100(), pack=nothing, join=nothing, storage=Cost(float("inf"), ""))
    one, many = (scale.embed_rate(costs, work, devices) for devices in (1, 64))
    assert many.per_second / (64 * one.per_second) == pytest.approx(many.balance)
    assert many.bound == "encoder"


def test_a_step_of_many_processes_waits_for_the_gradients(work):
    costs = replace(h100(), exchange=Cost(1.0, ""))
    assert scale.exchange_seconds(costs, 1) == 0 and scale.exchange_seconds(costs, 2) == pytest.approx(1.0)
    assert 1.9 < scale.exchange_seconds(costs, 512) < 2.1
    assert scale.train_rate(costs, work, 64).bound == "gradients' way"


def test_tables_and_figures_are_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(scale, "DEVICES", (1, 8))
    cases = tmp_path / "cases.csv"
    cases.write_text("case,slices\n" + "\n".join(f"c{number},{20 + number}" for number in range(40)))
    assert scale.run(BenchScaleConfig(cases=cases, json=tmp_path / "scale.json")) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("kitsam embed", "kitsam train", "kitsam evaluate", "assumed", "computed"))
    figures = json.loads((tmp_path / "scale.json").read_text())
    assert figures["stages"]["embed"]["1"]["efficiency"] == 1.0
    assert all(0 < one["8"]["efficiency"] <= 1 for one in figures["stages"].values())
    assert len(figures["goals"]) == 2 and all(part["train"] > 0 for part in figures["goals"].values())


def test_a_table_without_sizes_is_refused_by_name(tmp_path):
    cases = tmp_path / "cases.csv"
    cases.write_text("case,size\na,3\n")
    with pytest.raises(KitsamError, match="cases.csv: no CSV"):
        scale.read_sizes(cases)
