"""Every case as something to look at, made by worker processes where there are many: a page of its own, or a part
of the report.

A case that cannot be read becomes a text that says why.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kitsam.ct.case import Case, CaseFiles, read_case
from kitsam.ct.volume import Volume, check_same_shape, read_label
from kitsam.evaluation.metrics import CaseScores
from kitsam.evaluation.workers import case_workers
from kitsam.pictures.overlay import OUTLINES
from kitsam.report.config import SINGLE_FILE_MB
from kitsam.report.rendering import page_templates
from kitsam.report.viewer import Detail, Viewer, view
from kitsam.system.console import progress
from kitsam.system.errors import KitsamError
from kitsam.system.files import write_text

INSIDE = Detail(axial=50, across=0)  # of the worst, the median and the best case in the report itself
PAGE = Detail(axial=80, across=30)
FEW_CASES = 4  # which are drawn before other processes have begun
FRAME_BYTES = 16_000  # of a slice in a page, outlines too: measured 14,400 on drawn cases of 512 x 512


class Neighbor(NamedTuple):
    """The case before or after one."""

    name: str
    link: str  # from page to page


@dataclass(frozen=True)
class CaseTask:
    """What a worker makes of one case."""

    number: int  # of the case in the report, for the names of its parts
    name: str
    title: str  # its name, and its place among the cases
    origin: str  # of all the cases, in words
    scores: CaseScores
    files: CaseFiles | None
    predictions: str | None  # folder of label maps
    inside: Detail | None  # for the report itself
    page: Path | None  # where its own page goes
    link: str  # from the report to where the case is shown
    back: str  # from that page to the report
    neighbors: tuple[Neighbor | None, Neighbor | None]  # before and after it


class CasePart(NamedTuple):
    """A case in the report itself, or why it is not there."""

    html: str | None
    problem: str | None


def single_file_detail(cases: int) -> Detail:
    """As many slices of each case as fit into the one file together."""
    frames = SINGLE_FILE_MB * 1_000_000 * 0.9 / FRAME_BYTES / max(cases, 1)
    return Detail(max(min(int(frames * 0.6), PAGE.axial), 1), min(int(frames * 0.2), PAGE.across))


def make_cases(tasks: list[CaseTask]) -> dict[str, CasePart]:
    """By name; of cases that have only a page the part is empty."""
    parts = {}
    few = len(tasks) <= FEW_CASES
    with (
        nullcontext() if few else case_workers(None, len(tasks)) as pool,
        progress("Drawing", len(tasks), "cases") as tick,
    ):
        for task, part in zip(tasks, map(make_case, tasks) if few else pool.map(make_case, tasks)):
            parts[task.name] = part
            tick(1, task.name)
    return parts


def make_case(task: CaseTask) -> CasePart:
    """Writes the case's page, and returns its part of the report."""
    templates = page_templates()
    values = {"task": task, "case": task.scores, "outlines": OUTLINES}

    def render(template: str, viewer: Viewer | None, problem: str | None = None) -> str:
        return templates.get_template(template).render(values, viewer=viewer, problem=problem)

    try:
        case, prediction = _read(task)
    except KitsamError as error:
        if task.page:
            write_text(task.page, render("case_page.html", None, str(error)))
        return CasePart(None, str(error))
    if task.page:
        write_text(task.page, render("case_page.html", view(case, prediction, PAGE)))
    return CasePart(render("case.html", view(case, prediction, task.inside)) if task.inside else None, None)


def _read(task: CaseTask) -> tuple[Case, np.ndarray | None]:
    """The case, and its predicted labels, (S, H, W), where there are any."""
    if task.files is None:
        raise KitsamError("the data set holds no case of this name")
    case = read_case(task.files)
    path = Path(task.predictions or "", f"{task.files.name}.nii.gz")
    if not task.predictions or not path.is_file():
        return case, None
    label = read_label(path)
    check_same_shape(path, label, Volume(case.image, case.spacing, case.geometry))
    return case, label.voxels
