"""Scans -> label maps, on one or several processes: what `kitsam predict` does once it knows what to do."""

from collections.abc import Callable
from functools import partial

from accelerate.utils import gather_object

from kitsam.ct.scan import count_slices, read_scan
from kitsam.inference.config import PredictConfig
from kitsam.inference.model import Model, load_model
from kitsam.inference.predictions import Task
from kitsam.inference.result import write_outputs
from kitsam.inference.tables import write_tables
from kitsam.inference.work import ScanWork
from kitsam.system.console import progress, say, warn
from kitsam.system.coordination import decide, together
from kitsam.system.errors import CaseError
from kitsam.system.pieces import Pieces
from kitsam.system.processes import deal, report_lost_peer, start_processes


def label_in_processes(config: PredictConfig, find_tasks: Callable[[], list[Task]]) -> int:
    """The same for several processes, of which the main one finds out what to do."""
    start_processes(config.device)
    with report_lost_peer():
        tasks = decide(find_tasks)
        if tasks:
            return label_scans(config, tasks)
        decide(partial(write_tables, config.out))
        return 0


def label_scans(config: PredictConfig, tasks: list[Task]) -> int:
    """Label this process's share of the scans. Returns the exit code of all processes."""
    processes = start_processes(config.device)
    model = together(
        lambda: load_model(config.model, processes.device, config.precision, config.batch_size, config.flips)
    )
    say(f"{config.model}: {model.name.about}")
    sizes = decide(lambda: [task.scan.size for task in tasks])
    share = deal(sizes, processes.num_processes)[processes.process_index]
    failed = _label_share(config, model, tasks, share)
    names = [tasks[number].scan.name for number in sorted(gather_object(failed))]
    decide(partial(write_tables, config.out))
    if names and processes.is_main_process:
        warn(f"{len(names)} of {len(tasks)} scans could not be labelled: {', '.join(names)}")
    return 1 if names else 0


def _label_share(config: PredictConfig, model: Model, tasks: list[Task], share: list[int]) -> list[int]:
    """Returns which of the scans could not be labelled."""
    pieces, failed = Pieces(), []
    slices = {number: count_slices(tasks[number].scan) for number in share}
    with progress("Encoding and labelling", sum(slices.values()), "slices") as tick:
        for place, number in enumerate(share, 1):
            task = tasks[number]
            position = (
                f"{place} of {len(share)}" if len(tasks) == len(share) else f"{place} of this process's {len(share)}"
            )
            work = ScanWork(tick, slices[number], f"scan {position}: {task.scan.name}")
            with pieces.piece(number):
                before = f"{number + 1} of {len(tasks)} " if len(tasks) > 1 else ""
                try:
                    say(f"{before}{_label_scan(config, model, task, work)}")
                except CaseError as error:
                    warn(str(error))
                    failed.append(number)
            work.finish()
    pieces.finish()
    return failed


def _label_scan(config: PredictConfig, model: Model, task: Task, work: ScanWork) -> str:
    """Write the files of a scan. Returns the volumes, as a line."""
    volume = read_scan(task.scan)
    if task.outputs.dicom_seg:
        from kitsam.inference.dicom_seg import check_dicom_seg  # needs a package that is an extra

        check_dicom_seg(volume.files, task.scan.name)
    for doubt in volume.doubts:
        warn(doubt)
    prediction = model.predict_volume(
        volume, task.scan, task.boxes, f"--boxes: {config.boxes}", config.probabilities, work
    )
    for warning in prediction.warnings:
        warn(f"{task.scan.name}: {warning}")
    write_outputs(task.outputs, prediction)
    text = ", ".join(f"{name} {amount:.1f} mL" for name, amount in prediction.volumes_ml.items())
    return f"{task.scan.name}: {text}: {task.outputs.label_map}, {task.outputs.picture}"
