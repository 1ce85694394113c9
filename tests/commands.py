"""`python commands.py FILE`: kitsam's commands one after another in this process, one of several that work together.

FILE, JSON: for each command the port at which the processes meet, and the words behind `kitsam`.
"""

import json
import os
import sys
from pathlib import Path

import torch
from accelerate.state import AcceleratorState

from kitsam.cli import main


def run(lines: list[list]) -> int:
    for port, *words in lines:
        os.environ["MASTER_PORT"] = str(port)
        if code := main(words):
            return code
        if torch.distributed.is_initialized():
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()
        AcceleratorState._reset_state(reset_partial_state=True)
    return 0


if __name__ == "__main__":
    sys.exit(run(json.loads(Path(sys.argv[1]).read_text())))
