"""What a log says first."""

import torch

from kitsam.embedding.config import EmbedConfig
from kitsam.sam.config import EncoderConfig
from kitsam.system import head, machine
from kitsam.system.console import progress
from kitsam.system.head import changed_options, say_head
from kitsam.training.config import LossConfig, TrainConfig

CPU = torch.device("cpu")


def test_the_head_names_version_device_processes_data_and_place(capsys, tmp_path):
    config = TrainConfig("roi", "set", tmp_path / "run", batch_size=8)
    say_head("train", config, "set, 10 slices", CPU, "bf16")
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("# ") for line in lines)
    text = "\n".join(lines)
    for words in (
        f"kitsam {head.__version__} train, ",
        f"device: cpu, {machine.processor_name()}, torch {torch.__version__}, bf16",
        f"processes: 1, {torch.get_num_threads()} thread",
        "data: set, 10 slices",
        f"writes to: {tmp_path / 'run'}",
        "batch-size=8",
    ):
        assert words in text, words


def test_only_what_differs_from_the_recommended_options_is_listed(tmp_path):
    assert changed_options(TrainConfig("tumor", "set", tmp_path)) == []
    config = TrainConfig("roi", "set", tmp_path, quotas="natural", loss=LossConfig(balance=0.25), device="cpu")
    assert changed_options(config) == ["quotas=natural", "loss.balance=0.25"]
    config = EmbedConfig(tmp_path, tmp_path, EncoderConfig("tiny", input_size=512))
    assert changed_options(config) == ["encoder.name=tiny", "encoder.input-size=512"]


def test_a_gpu_on_which_nobody_computes_is_a_warning(capsys, tmp_path, monkeypatch):
    driver = tmp_path / "version"
    driver.touch()
    monkeypatch.setattr(machine, "DRIVER", driver)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    config = TrainConfig("roi", "set", tmp_path)
    say_head("train", config, "", CPU)
    assert "is a CPU build" in capsys.readouterr().err
    config.device = "cpu"  # as the user wants it
    say_head("train", config, "", CPU)
    assert "CPU build" not in capsys.readouterr().err


def test_a_line_of_progress_in_a_file_has_the_time(capsys):
    with progress("Reading", 2, "cases") as tick:
        tick(2, "case_00001")
    date, time, rest = capsys.readouterr().err.split(" ", 2)
    assert (len(date), date.count("-"), len(time), time.count(":")) == (10, 2, 8, 2)
    assert rest.startswith("Reading: 2/2 cases, ") and rest.endswith(" left case_00001\n")
