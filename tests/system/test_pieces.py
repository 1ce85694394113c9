"""Lines about pieces of work, shown once and in order, whichever process does them."""

import sys

from starting import started_ranks

SCRIPT = """
import os
from kitsam.system.console import say, warn
from kitsam.system.pieces import Pieces
from kitsam.system.processes import start_processes

start_processes("cpu")
rank = int(os.environ["RANK"])
pieces = Pieces()
for number in {shares}[rank]:
    with pieces.piece(number):
        say(f"piece {{number}}")
        if number % 2:
            warn(f"trouble {{number}}")
pieces.finish()
"""


def test_lines_of_two_processes_come_once_and_in_order(tmp_path):
    command = [sys.executable, "-c", SCRIPT.format(shares=[[1, 2, 5], [0, 3, 4]])]
    with started_ranks(command, tmp_path) as ranks:
        assert [one.wait() for one in ranks] == [0, 0]
        first, second = (one.text for one in ranks)
    lines = [line for line in first.splitlines() if line.startswith(("piece", "warning: trouble"))]
    assert lines == [
        line
        for number in range(6)
        for line in (f"piece {number}", *([f"warning: trouble {number}"] if number % 2 else []))
    ]
    assert "piece" not in second and "trouble" not in second


def test_the_pieces_of_one_process_are_shown_as_they_are_done(tmp_path, capsys):
    from kitsam.system.console import say
    from kitsam.system.pieces import Pieces

    pieces = Pieces()
    for number in range(2):
        with pieces.piece(number):
            say(f"piece {number}")
        assert capsys.readouterr().out == f"piece {number}\n"
    pieces.finish()
