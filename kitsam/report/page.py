"""`kitsam report`: everything about an evaluation as one HTML page, and each case as a page beside it.

The page is whole by itself: the worst, the median and the best case stand in it. A section is a function of
`SECTIONS` and the template of its name. All cores draw cases; 200 slices of 512 x 512 take one of them some 7 seconds.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

from kitsam.evaluation.results import JSON_NAME
from kitsam.pictures.charts import to_svg
from kitsam.report.cases import INSIDE, CasePart, CaseTask, Neighbor, make_cases, single_file_detail
from kitsam.report.config import SINGLE_FILE_MB, ReportConfig
from kitsam.report.evaluation import Evaluation, now_text, read_evaluation
from kitsam.report.rendering import page_templates
from kitsam.report.runs import runs_by_name
from kitsam.report.sections import SECTIONS, Report, shown_cases, worst_first
from kitsam.report.several import write_comparison_page
from kitsam.system.console import say, warn
from kitsam.system.files import write_text
from kitsam.system.outputs import files_in, refuse_overwriting

CASES_ENDING = "_cases"  # of the folder beside NAME.html
ROOM_BESIDE_CASES = 1_500_000  # bytes of a report of 500 cases without pictures


def run(config: ReportConfig) -> int:
    evaluations = [read_evaluation(folder) for folder in config.folders]
    refuse_overwriting([config.path], _inputs(config, evaluations))
    if len(evaluations) > 1:
        write_comparison_page(config.path, evaluations)
        say(f"Wrote {config.path}")
        return 0
    (evaluation,) = evaluations
    tasks = _tasks(config, evaluation)
    cases = make_cases(tasks) if tasks else {}
    links = {task.name: task.link for task in tasks if task.page or cases[task.name].html}
    if config.single_file:
        cases, links = _within_limit(cases, links)
    write_text(config.path, _html(Report(evaluation, cases, links)))
    say(f"Wrote {config.path}{f' and {len(links)} pages of cases' if links and not config.single_file else ''}")
    return 0


def _tasks(config: ReportConfig, evaluation: Evaluation) -> list[CaseTask]:
    """The worst case first; none where the data set is not there."""
    if evaluation.data_problem:
        return []
    metrics, path = evaluation.metrics, config.path
    ranking, shown = worst_first(metrics), shown_cases(metrics)
    if config.single_file:
        inside, pages = dict.fromkeys(ranking, single_file_detail(len(ranking))), {}
    else:
        folder = path.with_name(f"{path.stem}{CASES_ENDING}")
        inside, pages = dict.fromkeys(shown, INSIDE), {name: folder / f"{name}.html" for name in ranking}
    around = [None, *(Neighbor(name, quote(f"{name}.html")) for name in ranking), None]
    tasks = []
    for number, name in enumerate(ranking):
        page = pages.get(name)
        tasks.append(
            CaseTask(
                number,
                name,
                f"{shown[name]}: {name}" if name in shown else name,
                evaluation.origins_text,
                metrics.scores[name],
                evaluation.files.get(name),
                evaluation.settings.get("predictions"),
                inside.get(name),
                page,
                quote(f"{page.parent.name}/{page.name}") if page else f"#case-{number}",
                quote(f"../{path.name}"),
                (around[number], around[number + 2]),
            )
        )
    return tasks


def _within_limit(
    cases: Mapping[str, CasePart], links: Mapping[str, str]
) -> tuple[dict[str, CasePart], dict[str, str]]:
    """The cases that the one file has room for, the worst first."""
    room = SINGLE_FILE_MB * 1_000_000 - ROOM_BESIDE_CASES
    kept = {}
    for name, part in cases.items():
        room -= len((part.html or "").encode())
        if room < 0:
            break
        kept[name] = part
    if len(kept) < len(cases):
        warn(f"--single_file: no room in {SINGLE_FILE_MB} MB for {len(cases) - len(kept)} of {len(cases)} cases")
    return kept, {name: link for name, link in links.items() if name in kept}


def _html(report: Report) -> str:
    templates, sections = page_templates(), []
    evaluation = report.evaluation
    values = {
        "evaluation": evaluation,
        "metrics": evaluation.metrics,
        "comparison": evaluation.comparison,
        "metrics_file": JSON_NAME,
        "links": report.links,
        "svg": to_svg,
    }
    for title, section in SECTIONS.items():
        content = templates.get_template(f"{section.__name__}.html").render(values | section(report))
        sections.append((section.__name__, title, content))
    return templates.get_template("report.html").render(values, sections=sections, now=now_text())


def _inputs(config: ReportConfig, evaluations: list[Evaluation]) -> Iterator[Path]:
    """What a report may be written from: all but other reports."""
    for evaluation in evaluations:
        settings = evaluation.settings
        named = [settings.get(name) for name in ("data", "predictions", "shards", "against")]
        for folder in (evaluation.folder, *named, *runs_by_name(settings).values()):
            if isinstance(folder, (str, Path)):
                yield from (path for path in files_in(Path(folder)) if path.suffix != ".html")
