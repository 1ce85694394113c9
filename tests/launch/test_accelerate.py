"""What `accelerate launch` makes of the configurations in launch/, run as far as a CPU allows."""

import json
from pathlib import Path

import pytest
import yaml
from accelerate.commands import launch
from accelerate.utils import launch as environments
from accelerate.utils.other import is_port_in_use
from starting import LAUNCH, Started, finish, free_port, steps_done, train_arguments
from tiny import train_config
from torch.distributed.run import get_args_parser
from trained import losses

from kitsam.training import loop

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
    """In the number format of --precision: accelerate's own option makes no difference."""
    config = train_config("tumor", shards, tmp_path / "run", steps=1)
    line = ["accelerate", "launch", "--config_file", LAUNCH / "one_gpu.yaml", "--mixed_precision=bf16", "-m", "kitsam"]
    finish([*line, *train_arguments(config, tmp_path)], tmp_path / "log")
    assert steps_done(config.out) == 1
    here = train_config("tumor", shards, tmp_path / "here", steps=1)
    assert loop.run(here) == 0 and losses(config.out) == pytest.approx(losses(here.out), abs=1e-5)


CONFIGURATIONS = {path.name: yaml.safe_load(path.read_text()) for path in LAUNCH.glob("*.yaml")}


def start_of(content: dict, folder: Path) -> tuple[object, dict[str, str]]:
    """What accelerate would start with a configuration: torchrun's options or a command, and the environment.

    Without its number format, in whose place kitsam sets its own.
    """
    path = folder / "configuration.yaml"
    path.write_text(yaml.safe_dump(content))
    words = launch.launch_command_parser().parse_args(["--config_file", str(path), "script.py"])
    words, _, _ = launch._validate_launch_command(words)
    if words.multi_gpu:
        environment = environments.prepare_multi_gpu_env(words)
        started = vars(environments._filter_args(words, get_args_parser(), ["--training_script", "script.py"]))
    else:
        started, environment = environments.prepare_simple_launcher_cmd_env(words)
    return started, {name: value for name, value in environment.items() if name != "ACCELERATE_MIXED_PRECISION"}


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, content in CONFIGURATIONS.items() for key in content])
def test_every_key_of_a_configuration_has_an_effect(name, key, tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "is_port_in_use", lambda port: False)
    content = CONFIGURATIONS[name]
    others = {key: 2 * content[key]} if type(content[key]) is int else {}
    try:
        changed = start_of({**{one: value for one, value in content.items() if one != key}, **others}, tmp_path)
    except ValueError:
        return  # accelerate needs it
    assert changed != start_of(content, tmp_path)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_accelerate_misses_nothing_in_a_configuration(name, tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(launch.logger, "warning", lambda text, *rest, **options: warnings.append(text))
    monkeypatch.setattr(environments, "is_port_in_use", lambda port: False)
    start_of(CONFIGURATIONS[name], tmp_path)
    assert not warnings


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
