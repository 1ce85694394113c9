"""What several processes decide, and that they end as one."""

import sys
from pathlib import Path

import pytest
from starting import started_ranks

from kitsam.system.coordination import decide, sole_writers, together
from kitsam.system.errors import KitsamError, OptionError

SCRIPT = """
import os, sys
from pathlib import Path
from unittest.mock import patch
from kitsam import cli
from kitsam.system.coordination import decide, sole_writers, together
from kitsam.system.errors import KitsamError, OptionError
from kitsam.system.processes import start_processes

rank = int(os.environ["RANK"])

def fail(error):
    raise error

def work(config):
    start_processes("cpu")
    {body}
    return 0

with patch.object(cli, "_parse", lambda *_: Path()), patch.object(cli, "_named", lambda _: work):
    Path.check_places = lambda _: None
    sys.exit(cli.main(["train"]))
"""


def run_two(body: str, folder: Path, **environment: object) -> list[tuple[int, str]]:
    """Exit code and output of each of two processes that do `body` as a command."""
    command = [sys.executable, "-c", SCRIPT.format(body=body)]
    with started_ranks(command, folder, **environment) as ranks:
        return [(one.wait(), one.text) for one in ranks]


def test_the_main_process_decides_for_all(tmp_path):
    results = run_two("print('decided', decide(lambda: [rank, 'plan']))", tmp_path)
    assert [code for code, _ in results] == [0, 0]
    assert all("decided [0, 'plan']" in text for _, text in results)


@pytest.mark.parametrize(("error", "code"), [("OptionError('--out: taken')", 2), ("KitsamError('x.tar: damaged')", 1)])
def test_what_the_main_process_refuses_ends_all_with_one_line_and_one_exit_code(tmp_path, error, code):
    results = run_two(f"decide(lambda: fail({error}))", tmp_path)
    assert [one for one, _ in results] == [code, code]
    assert [text.count("error:") for _, text in results] == [1, 0]


def test_an_error_of_one_process_is_told_by_the_main_one(tmp_path):
    results = run_two("together(lambda: fail(KitsamError('a.pth: damaged')) if rank else 'read')", tmp_path)
    assert [code for code, _ in results] == [1, 1]
    assert "kitsam train: error: a.pth: damaged" in results[0][1] and "error:" not in results[1][1]


def test_each_process_keeps_what_it_made_itself(tmp_path):
    results = run_two("print('mine', together(lambda: rank))", tmp_path)
    assert [f"mine {rank}" in text for rank, (_, text) in enumerate(results)] == [True, True]


def test_machines_that_do_not_share_the_folder_are_told(tmp_path):
    """Two processes to which the same name means two folders."""
    body = "os.chdir(os.environ[f'FOLDER{rank}'])\n    with sole_writers(Path('run')): print('at work')"
    folders = {f"FOLDER{rank}": tmp_path / str(rank) for rank in range(2)}
    for folder in folders.values():
        folder.mkdir()
    results = run_two(body, tmp_path, **folders)
    assert [code for code, _ in results] == [2, 2]
    assert "--out: run is another folder on" in results[0][1] and "file system that they share" in results[0][1]
    assert "at work" not in results[0][1] + results[1][1]


def test_one_process_decides_alone(tmp_path):
    assert decide(lambda: 1) == together(lambda: 1) == 1
    for call in (decide, together):
        with pytest.raises(OptionError, match="no") as caught:
            call(lambda: (_ for _ in ()).throw(OptionError("no")))
        assert not caught.value.is_told
    with (
        sole_writers(tmp_path / "out"),
        pytest.raises(KitsamError, match="writes there"),
        sole_writers(tmp_path / "out"),
    ):
        pass


def test_a_process_closes_its_group_before_it_ends(tmp_path):
    """gloo's threads now and then abort a Python that ends with the group open: then the exit code is not kitsam's."""
    script = """
import atexit, torch.distributed as dist
atexit.register(lambda: print("open" if dist.is_initialized() else "closed"))  # comes last
from kitsam.system.processes import start_processes
start_processes("cpu")
print(dist.is_initialized())
"""
    with started_ranks([sys.executable, "-c", script], tmp_path) as ranks:
        results = [(one.wait(), one.text.split()) for one in ranks]
    assert results == [(0, ["True", "closed"])] * 2
