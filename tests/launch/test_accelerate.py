"""What `accelerate launch` makes of the configurations in launch/, run as far as a CPU allows."""

import json
from pathlib import Path

import pytest
from accelerate.commands import launch
from accelerate.utils.other import is_port_in_use
from starting import LAUNCH, Started, finish, free_port, steps_done, train_arguments
from tiny import train_config

# Stands in for kitsam: each process writes down which of how many it is, and its words.
ANSWER = """
import json, os, pathlib, sys
names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "TORCHELASTIC_MAX_RESTARTS")
answer = {name: int(os.environ[name]) for name in names} | {"words": sys.argv[1:]}
pathlib.Path(__file__).with_name(f"{os.environ['RANK']}.json").write_text(json.dumps(answer))
"""


@pytest.fixture
def script(tmp_path) -> Path:
    path = tmp_path / "answer.py"
    path.write_text(ANSWER)
    return path


def answers(script: Path) -> list[dict]:
    """By rank."""
    paths = script.parent.glob("*.json")
    return [json.loads(path.read_text()) for path in sorted(paths, key=lambda path: int(path.stem))]


@pytest.mark.parametrize(("line", "processes"), [((), 8), (("--num_processes", 4), 4)])
def test_one_machine_starts_a_process_for_each_of_its_gpus(script, line, processes):
    line = ["--config_file", LAUNCH / "one_machine.yaml", "--main_process_port", free_port(), *line]
    launch.launch_command(launch.launch_command_parser().parse_args([*map(str, [*line, script]), "--seed", "1"]))
    started = answers(script)
    assert [one["RANK"] for one in started] == [one["LOCAL_RANK"] for one in started] == list(range(processes))
    assert all(one["WORLD_SIZE"] == processes and one["words"] == ["--seed", "1"] for one in started)


def test_several_machines_meet_at_the_first(script, tmp_path):
    port = free_port()
    line = ["--rdzv_backend", "c10d", "--main_process_ip", "127.0.0.1", "--main_process_port", port]
    command = ["accelerate", "launch", "--config_file", LAUNCH / "several_machines.yaml", *line, "--max_restarts", 3]
    # accelerate wants the port free on machine 0, which here is machine 1 as well: one after the other.
    with Started([*command, "--machine_rank", 0, script], tmp_path / "0.log") as first:
        first.wait_until(lambda: is_port_in_use(port))
        with Started([*command, "--machine_rank", 1, script], tmp_path / "1.log") as second:
            assert first.wait() == second.wait() == 0, first.text[-3000:] + second.text[-3000:]
    started = answers(script)
    assert [one["RANK"] for one in started] == list(range(16))
    assert sorted(one["LOCAL_RANK"] for one in started) == sorted([*range(8)] * 2)
    assert {one["GROUP_RANK"] for one in started} == {0, 1}
    assert all(one["WORLD_SIZE"] == 16 and one["TORCHELASTIC_MAX_RESTARTS"] == 3 for one in started)


def test_one_gpus_configuration_trains_on_a_machine_without_one(shards, tmp_path):
    config = train_config("tumor", shards, tmp_path / "run", steps=1)
    line = ["accelerate", "launch", "--config_file", LAUNCH / "one_gpu.yaml", "-m", "kitsam"]
    finish([*line, *train_arguments(config, tmp_path)], tmp_path / "log")
    assert steps_done(config.out) == 1


@pytest.mark.slow
def test_several_machines_configuration_joins_two_starts_on_this_one(shards, tmp_path):
    config = train_config("tumor", shards, tmp_path / "run", steps=1)
    port = free_port()
    line = ["--rdzv_backend", "c10d", "--main_process_ip", "127.0.0.1", "--main_process_port", port]
    command = ["accelerate", "launch", "--config_file", LAUNCH / "several_machines.yaml", "--num_processes", 2, *line]
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
