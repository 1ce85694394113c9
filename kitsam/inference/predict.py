"""`kitsam predict`: CT volumes -> label maps with each scan's own geometry, and pictures to look at.

All that can be refused is refused before torch is imported, and a scan that has its label map already takes no longer
than reading it. The work itself is in `labelling.py`.
"""

import os

from kitsam.inference.config import PredictConfig
from kitsam.inference.predictions import Task, outputs_of, tasks_of
from kitsam.inference.scans import Box, Scan, find_scans, read_boxes
from kitsam.system.console import is_main_process
from kitsam.system.errors import OptionError
from kitsam.system.options import check_place
from kitsam.system.outputs import refuse_overwriting


def run(config: PredictConfig) -> int:
    scans = find_scans(config.ct)
    boxes = read_boxes(config.boxes, scans) if config.boxes else {}
    check_place("--model", config.model, "file")
    outputs = [path for scan in scans for path in outputs_of(config.out, scan)]
    refuse_overwriting(outputs, [*(scan.path for scan in scans), config.model, config.boxes])
    tasks, refusal = _decide(config, scans, boxes) if is_main_process() else ([], None)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        if refusal:
            raise refusal
        if not tasks:
            return 0
    # Here, since torch takes seconds.
    from kitsam.inference.labelling import label_scans

    return label_scans(config, tasks, refusal)


def _decide(
    config: PredictConfig, scans: list[Scan], boxes: dict[str, list[Box]]
) -> tuple[list[Task], OptionError | None]:
    """What is to be done, or why nothing is: for the main process to tell the others."""
    try:
        return tasks_of(config, scans, boxes), None
    except OptionError as error:
        return [], error
