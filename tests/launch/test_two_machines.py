"""Two machines, as network namespaces joined by one cable, train together by launch/multi_node.sh."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from starting import LAUNCH, Started, steps_done, train_arguments
from tiny import LONG, long_config
from trained import assert_same_run

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="needs root and iproute2")


class Machine(NamedTuple):
    namespace: str
    address: str


class Cable(NamedTuple):
    """A veth pair, an end in each machine."""

    machines: tuple[Machine, Machine]

    def set(self, state: str) -> None:
        for machine in self.machines:
            ip("-n", machine.namespace, "link", "set", "cable", state)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def cable() -> Iterator[Cable]:
    machines = tuple(Machine(f"kitsam-{os.getpid()}-{number}", f"10.77.0.{number + 1}") for number in range(2))
    with ExitStack() as undo:
        for machine in machines:
            if subprocess.run(["ip", "netns", "add", machine.namespace], capture_output=True, check=False).returncode:
                pytest.skip("this machine allows no network namespaces")
            undo.callback(ip, "netns", "delete", machine.namespace)
        first, second = (machine.namespace for machine in machines)
        ip("-n", first, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", second)
        for machine in machines:
            ip("-n", machine.namespace, "address", "add", f"{machine.address}/24", "dev", "cable")
            ip("-n", machine.namespace, "link", "set", "lo", "up")
        joined = Cable(machines)
        joined.set("up")
        yield joined


def start(cable: Cable, rank: int, arguments: list[str], folder: Path, **changes: object) -> Started:
    environment = {
        "HOST": cable.machines[0].address,
        "RANK": rank,
        "NODES": 2,
        "PROCESSES": 1,
        "RESTARTS": 0,
        "WAIT": 20,
        "GLOO_SOCKET_IFNAME": "cable",
        **changes,
    }
    command = ["ip", "netns", "exec", cable.machines[rank].namespace, LAUNCH / "multi_node.sh", *arguments]
    return Started(command, folder / f"{rank}.log", **environment)


def test_two_machines_train_to_the_decoder_of_one(shards, tmp_path, cable, long_run):
    config = long_config(shards, tmp_path / "run", step_timeout=3)
    arguments = train_arguments(config, tmp_path)
    with start(cable, 0, arguments, tmp_path) as first, start(cable, 1, arguments, tmp_path) as second:
        assert first.wait() == second.wait() == 0, first.text[-3000:]
    assert_same_run(config.out, long_run)


@pytest.mark.slow
def test_a_cut_cable_ends_both_sides_and_once_mended_they_go_on(shards, tmp_path, cable, long_run):
    config = long_config(shards, tmp_path / "run", step_timeout=3)
    arguments = train_arguments(config, tmp_path)
    with start(cable, 0, arguments, tmp_path) as first, start(cable, 1, arguments, tmp_path) as second:
        first.wait_until(lambda: steps_done(config.out) >= 4)
        cable.set("down")
        assert first.wait() and second.wait()
        assert all("another process has ended or does not answer" in side.text for side in (first, second))
    assert 4 <= steps_done(config.out) < LONG
    cable.set("up")
    with start(cable, 0, arguments, tmp_path) as first, start(cable, 1, arguments, tmp_path) as second:
        assert first.wait() == second.wait() == 0, first.text[-3000:]
        assert "Going on after step" in first.text
    assert_same_run(config.out, long_run)


@pytest.mark.slow
def test_a_cable_mended_in_time_is_enough_for_the_run_to_go_on_by_itself(shards, tmp_path, cable, long_run):
    config = long_config(shards, tmp_path / "run", step_timeout=3)
    arguments = train_arguments(config, tmp_path)
    with (
        start(cable, 0, arguments, tmp_path, RESTARTS=2, WAIT=60) as first,
        start(cable, 1, arguments, tmp_path, RESTARTS=2, WAIT=60) as second,
    ):
        first.wait_until(lambda: steps_done(config.out) >= 4)
        cable.set("down")
        first.wait_until(lambda: not first.ranks() and not second.ranks())
        cable.set("up")
        assert first.wait() == second.wait() == 0, first.text[-3000:] + second.text[-3000:]
    assert_same_run(config.out, long_run)
