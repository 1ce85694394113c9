"""Starting kitsam's commands as users do, on two CPU processes, and finding the processes that came of it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import yaml

from kitsam.system.options import as_plain
from kitsam.training.checkpoint import checkpoints

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("SLURM_")},
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "OMP_NUM_THREADS": "1",
}
PATIENCE = 120.0  # seconds that a test waits for what should happen within a few


def torchrun(processes: int, *arguments: object) -> list[str]:
    return list(map(str, ["torchrun", "--standalone", "--nproc_per_node", processes, "-m", "kitsam", *arguments]))


def one_machine(processes: int, restarts: int) -> dict[str, object]:
    """What `launch/multi_node.sh` is told."""
    port = free_port()
    return {"HOST": "127.0.0.1", "PORT": port, "RANK": 0, "NODES": 1, "PROCESSES": processes, "RESTARTS": restarts}


def train_arguments(config, folder: Path, **options: object) -> list[str]:
    """`train` and its options; the configuration is written to `folder`."""
    path = folder / f"{config.out.name}.yaml"
    path.write_text(yaml.safe_dump(as_plain(config)))
    return [
        "train",
        "--config",
        str(path),
        *(str(word) for name, value in options.items() for word in (f"--{name}", value)),
    ]


class Started:
    """A command at work, in a session of its own, its output in a file. A variable of None is not set."""

    def __init__(self, command: list, log: Path, cwd: Path = ROOT, **environment: object) -> None:
        self.log = log
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                list(map(str, command)),
                stdout=output,
                stderr=output,
                cwd=cwd,
                env={name: str(value) for name, value in {**ENVIRONMENT, **environment}.items() if value is not None},
                start_new_session=True,
            )

    def __enter__(self) -> "Started":
        return self

    def __exit__(self, *exception: object) -> None:
        for pid in (self.process.pid, *descendants(self.process.pid)):
            end(pid, signal.SIGKILL)
        self.process.wait()

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def ranks(self) -> dict[int, int]:
        """Process number of each rank that runs kitsam below this command."""
        found = {}
        for pid in (self.process.pid, *descendants(self.process.pid)):
            rank = environment_of(pid).get("RANK")
            if rank is not None and "torchrun" not in command_of(pid) and "-m\0kitsam" in command_of(pid):
                found[int(rank)] = pid
        return found

    def wait_until(self, happened: Callable[[], object]) -> None:
        """Return early where the command ends."""
        until = time.monotonic() + PATIENCE
        while not happened() and self.process.poll() is None:
            assert time.monotonic() < until, self.text[-3000:]
            time.sleep(0.01)

    def wait(self, limit: float = PATIENCE) -> int:
        return self.process.wait(limit)


@contextmanager
def started_ranks(command: list, folder: Path, count: int = 2, **environment: object) -> Iterator[list[Started]]:
    """The command as each of `count` processes that find one another, without a launcher; logs `folder/RANK.log`."""
    group = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                Started(command, folder / f"{rank}.log", RANK=rank, LOCAL_RANK=rank, **{**group, **environment})
            )
            for rank in range(count)
        ]


def finish(command: list, log: Path, cwd: Path = ROOT, **environment: object) -> str:
    """Run to the end, which must be a good one. Returns the output."""
    with Started(command, log, cwd, **environment) as started:
        assert started.wait() == 0, started.text[-3000:]
        return started.text


def end(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def descendants(pid: int) -> list[int]:
    """Children of `pid`, their children and so on."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in brackets, may hold anything.
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    found, queue = [], [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def environment_of(pid: int) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in _proc(pid, "environ").split("\0") if "=" in entry)


def command_of(pid: int) -> str:
    """Words separated by zero characters."""
    return _proc(pid, "cmdline")


def _proc(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def steps_done(run: Path) -> int:
    """By the last complete checkpoint."""
    saved = checkpoints(run)
    return int(saved[-1].name.split("-")[1]) if saved else 0


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
