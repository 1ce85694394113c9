"""What `accelerate launch` makes of the configurations in launch/, read and, as far as a CPU allows, run."""

import pytest
from accelerate.commands import launch
from accelerate.utils.other import is_port_in_use
from starting import LAUNCH, Started, finish, free_port, steps_done, train_arguments
from tiny import train_config

TRAIN = ["-m", "kitsam", "train", "--seed", "1"]


@pytest.fixture
def asked(monkeypatch):
    """A function: the line behind `accelerate launch` -> what it asks torchrun for."""
    seen = []
    monkeypatch.setattr("torch.distributed.run.run", seen.append)
    monkeypatch.setattr("accelerate.utils.launch.is_port_in_use", lambda port: False)

    def ask(*line):
        launch.launch_command(launch.launch_command_parser().parse_args([*map(str, line), *TRAIN]))
        return seen.pop()

    return ask


def test_one_machine_starts_a_process_for_each_of_its_gpus(asked):
    run = asked("--config_file", LAUNCH / "one_machine.yaml")
    assert (run.nnodes, run.nproc_per_node) == ("1:1", "8")
    assert run.module and [run.training_script, *run.training_script_args] == TRAIN[1:]
    assert asked("--config_file", LAUNCH / "one_machine.yaml", "--num_processes", 4).nproc_per_node == "4"


@pytest.mark.parametrize("machine", [0, 1])
def test_several_machines_meet_at_the_first(asked, machine):
    line = ["--rdzv_backend", "c10d", "--main_process_ip", "10.0.0.1", "--machine_rank", machine, "--max_restarts", 3]
    run = asked("--config_file", LAUNCH / "several_machines.yaml", *line)
    assert (run.nnodes, run.nproc_per_node, run.node_rank) == ("2", "8", machine)
    assert (run.rdzv_backend, run.rdzv_endpoint, run.max_restarts) == ("c10d", "10.0.0.1:29500", 3)
    assert run.module and [run.training_script, *run.training_script_args] == TRAIN[1:]


def test_one_gpus_configuration_trains_on_a_machine_without_one(shards, tmp_path):
    config = train_config("tumor", shards, tmp_path / "run", steps=1)
    line = ["accelerate", "launch", "--config_file", LAUNCH / "one_gpu.yaml", "-m", "kitsam"]
    finish([*line, *train_arguments(config, tmp_path)], tmp_path / "log")
    assert steps_done(config.out) == 1


@pytest.mark.slow
def test_several_machines_configuration_joins_two_starts_on_this_one(shards, tmp_path):
    config = train_config("tumor", shards, tmp_path / "run", steps=1)
    port = free_port()
    line = [
        "--num_processes",
        2,
        "--rdzv_backend",
        "c10d",
        "--main_process_ip",
        "127.0.0.1",
        "--main_process_port",
        port,
    ]
    command = ["accelerate", "launch", "--config_file", LAUNCH / "several_machines.yaml", *line]
    train = ["-m", "kitsam", *train_arguments(config, tmp_path)]
    # accelerate wants the port free on machine 0, which here is machine 1 as well: one after the other.
    with Started([*command, "--machine_rank", 0, *train], tmp_path / "0.log") as first:
        first.wait_until(lambda: is_port_in_use(port))
        with Started([*command, "--machine_rank", 1, *train], tmp_path / "1.log") as second:
            first.wait_until(lambda: len(first.ranks()) == len(second.ranks()) == 1)
            assert sorted([*first.ranks(), *second.ranks()]) == [0, 1]
            assert first.wait() == second.wait() == 0, first.text[-3000:]


@pytest.mark.slow
def test_one_machines_configuration_trains_with_two_processes_on_a_cpu(shards, tmp_path):
    config = train_config("tumor", shards, tmp_path / "run", steps=1)
    line = ["--config_file", LAUNCH / "one_machine.yaml", "--num_processes", 2, "--main_process_port", free_port()]
    with Started(
        ["accelerate", "launch", *line, "-m", "kitsam", *train_arguments(config, tmp_path)], tmp_path / "log"
    ) as started:
        started.wait_until(lambda: len(started.ranks()) == 2)
        assert len(started.ranks()) == 2 and started.wait() == 0, started.text[-3000:]
