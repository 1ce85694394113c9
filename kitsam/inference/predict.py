"""`kitsam predict`: CT volumes -> label maps with each scan's own geometry, pictures, and tables of what was found.

All that can be refused is refused before torch is imported, and a scan that has its label map already takes no longer
than reading it. The work itself is in `labelling.py`, by a model that stays loaded (`model.py`).
"""

import os

from kitsam.ct.scan_files import Scan
from kitsam.inference.config import PredictConfig, names_checkpoint
from kitsam.inference.predictions import Task, model_file, outputs_of, tasks_of
from kitsam.inference.scans import BoxPrompt, DrawnBox, find_scans, read_boxes
from kitsam.inference.tables import check_tables, table_paths, write_tables
from kitsam.system.errors import OptionError
from kitsam.system.options import check_place
from kitsam.system.outputs import refuse_overwriting


def run(config: PredictConfig) -> int:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # Here and below, since torch takes seconds.
        from kitsam.inference.labelling import label_in_processes

        return label_in_processes(config, lambda: find_tasks(config))
    tasks = find_tasks(config)
    if not tasks:
        write_tables(config.out)
        return 0
    from kitsam.inference.labelling import label_scans

    return label_scans(config, tasks)


def find_tasks(config: PredictConfig) -> list[Task]:
    """What is to be done. Raises `OptionError` for all that can be refused beforehand."""
    scans = find_scans(config.ct)
    boxes = read_boxes(config.boxes, scans) if config.boxes else {}
    _check_boxes(config, scans, boxes)
    if config.dicom_seg and (others := [str(scan.path) for scan in scans if not scan.series]):
        raise OptionError(f"--dicom_seg: no DICOM series: {', '.join(others)}")
    outputs = [path for scan in scans for path in outputs_of(config, scan).paths] + table_paths(config.out)
    inputs = [path for scan in scans for path in scan.files]
    refuse_overwriting(outputs, [*inputs, model_file(config.model), config.boxes])
    check_tables(config.out)
    return tasks_of(config, scans, boxes)


def _check_boxes(config: PredictConfig, scans: list[Scan], boxes: dict[str, list[DrawnBox]]) -> None:
    """Raises `OptionError` where the boxes are not what the model needs, or it is not there."""
    if not names_checkpoint(config.model):
        check_place("--model", config.model, "file")
        if any(isinstance(box, BoxPrompt) for drawn in boxes.values() for box in drawn):
            raise OptionError(
                f"--boxes: {config.boxes}: label and propagate are for a checkpoint's own decoder (--model lite_medsam)"
            )
        return
    if bare := [scan.name for scan in scans if not boxes.get(scan.name)]:
        raise OptionError(
            f"--boxes: {config.model} finds what a box surrounds, and there is none for {', '.join(bare)}"
        )
