"""The lines of docs/guides/cluster.md and launch/, as they stand: how many processes, with which cores and threads.

A small program stands in for kitsam, commands of a text for SLURM and for the driver of three GPUs.
"""

import json
import os
import re
from collections.abc import Callable
from typing import NamedTuple

import pytest
import slurm
from starting import LAUNCH, ROOT, Started, free_port

CORES = len(os.sched_getaffinity(0))
GUIDE = ROOT / "docs" / "guides" / "cluster.md"
GPUS = 3
# Where `accelerate launch` starts one process, it has no rank.
KITSAM = """
import json, os, pathlib, sys
rank, size = (int(os.environ.get(name, default)) for name, default in (("RANK", 0), ("WORLD_SIZE", 1)))
answer = {"size": size, "threads": int(os.environ["OMP_NUM_THREADS"]), "cores": len(os.sched_getaffinity(0))}
path = pathlib.Path(os.environ["ANSWERS"], f"{rank}.json")
path.write_text(json.dumps({**answer, "words": sys.argv[1:]}))
"""
TOOLS = {
    "nvidia-smi": "#!/bin/sh\n" + 'echo "GPU: one of them"\n' * GPUS,
    "kitsam": '#!/bin/sh\necho "kitsam $*" >> "$STUB_LOG"\n',
}


class Process(NamedTuple):
    """What a process that stands in for kitsam was given."""

    size: int  # of the group
    threads: int
    cores: int
    words: list[str]


Start = Callable[..., list[Process]]


@pytest.fixture
def start(tmp_path) -> Start:
    """A function: lines for bash, all at once, and variables -> the processes by rank."""
    project, answers = tmp_path / "project", tmp_path / "answers"
    for folder in (project / "kitsam", answers):
        folder.mkdir(parents=True)
    (project / "launch").symlink_to(LAUNCH)
    (project / "kitsam" / "__init__.py").touch()
    (project / "kitsam" / "__main__.py").write_text(KITSAM)
    path = f"{slurm.install(tmp_path / 'tools', **TOOLS)}:{os.environ['PATH']}"
    own = {"PATH": path, "ANSWERS": answers, "STUB_LOG": tmp_path / "asked", "PORT": free_port()}

    def run(*lines: str, **variables: object) -> list[Process]:
        environment = {**own, "OMP_NUM_THREADS": None, "CUDA_VISIBLE_DEVICES": None, **variables}
        commands = [["bash", "-c", line] for line in lines]
        started = [Started(command, tmp_path / "log", project, **environment) for command in commands]
        for one in started:
            with one:
                assert one.wait() == 0, one.text[-3000:]
        found = sorted(answers.iterdir(), key=lambda path: int(path.stem))
        assert [int(path.stem) for path in found] == list(range(len(found)))
        return [Process(**json.loads(path.read_text())) for path in found]

    return run


def guide_line(where: str) -> str:
    row = re.search(rf"^\| {where} \|.*?`(.+?)`", GUIDE.read_text(), re.MULTILINE)
    return row[1]


def share(processes: int) -> int:
    """Threads of each of several processes on this machine."""
    return max(CORES // processes, 1)


@pytest.mark.parametrize(
    ("where", "processes", "threads"),
    [
        ("one GPU", 1, 1),
        ("one machine", 8, 1),
        ("SLURM", 1, share(1)),
        ("CPU", 2, share(2)),
        ("embed, then verify", GPUS, share(GPUS)),
    ],
)
def test_each_line_of_the_guide_starts_its_processes(start, where, processes, threads):
    found = start(guide_line(where))
    assert len(found) == processes
    assert all(one.size == processes and one.threads == threads for one in found)
    assert all(one.words == found[0].words and one.words[0] in ("train", "embed") for one in found)


def test_the_guides_line_for_several_machines_joins_them(start):
    line = guide_line("several machines")
    assert "HOST=10.0.0.1 RANK=0 NODES=2 PROCESSES=8 " in line
    first = line.replace("10.0.0.1", "127.0.0.1")
    found = start(first, first.replace("RANK=0", "RANK=1"))
    assert len(found) == 16 and all(one.size == 16 and one.threads == share(8) for one in found)


def test_embedding_is_followed_by_a_check(start, tmp_path):
    start(guide_line("embed, then verify"))
    assert (tmp_path / "asked").read_text() == "kitsam shards verify shards/kits23\n"


@pytest.mark.parametrize("visible", ["1", "0,2"])
def test_only_the_gpus_that_are_visible_count(start, visible):
    found = start(guide_line("embed, then verify"), CUDA_VISIBLE_DEVICES=visible)
    assert len(found) == len(visible.split(","))


@pytest.mark.skipif(CORES < 2, reason="needs two cores")
def test_a_slurm_job_gets_the_cores_that_it_asks_for(start):
    (process,) = start("sbatch --cpus-per-task=2 launch/train.sbatch train")
    assert process.cores == process.threads == 2
    (process,) = start("sbatch --cpus-per-task=1 launch/train.sbatch train")
    assert process.cores == process.threads == 1


def test_the_processes_of_a_node_share_its_cores(start):
    found = start("sbatch --gpus-per-node=2 --cpus-per-task=2 launch/train.sbatch train")
    assert [one.threads for one in found] == [1, 1]


@pytest.mark.parametrize(("visible", "threads"), [(None, share(GPUS)), ("0", share(1)), ("2,0", share(2))])
def test_a_process_for_each_gpu_has_its_share_of_the_cores(start, tmp_path, visible, threads):
    """torchrun itself would look for real ones."""
    (tmp_path / "tools" / "torchrun").write_text("#!/bin/sh\nexec python -m kitsam\n")
    (tmp_path / "tools" / "torchrun").chmod(0o755)
    (process,) = start("HOST=127.0.0.1 RANK=0 launch/multi_node.sh train", CUDA_VISIBLE_DEVICES=visible)
    assert process.threads == threads


def test_threads_that_are_set_are_kept(start):
    (process,) = start("sbatch launch/train.sbatch train", OMP_NUM_THREADS=3)
    assert process.threads == 3


def test_several_nodes_are_what_the_head_of_the_job_says(start):
    head = (LAUNCH / "train.sbatch").read_text()
    line = re.search(r"^# +(sbatch --nodes.* embed) ", head, re.MULTILINE)[1]
    found = start(line)
    assert len(found) == 16 and all(one.size == 16 and one.words == ["embed"] for one in found)
