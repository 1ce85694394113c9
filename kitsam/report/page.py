"""`kitsam report`: everything about an evaluation in one HTML file.

The file needs nothing beside it and no network: style and pictures stand in it, so it can be mailed and kept. Results
come first, then the cases that explain them, then how the decoders were trained, and last what it was all made with.
"""

from html import escape

from kitsam.config import ReportConfig
from kitsam.console import progress, say
from kitsam.evaluation.results import Metrics, read_metrics
from kitsam.files import write_text
from kitsam.report import sections
from kitsam.report.style import CSS

FILE_NAME = "report.html"


def run(config: ReportConfig) -> int:
    metrics = read_metrics(config.folder)
    path = config.out or config.folder / FILE_NAME
    write_text(path, page(metrics, str(config.folder.absolute())))
    say(f"Wrote {path}")
    return 0


def page(metrics: Metrics, source: str) -> str:
    parts = (
        sections.results,
        sections.example_cases,
        sections.all_cases,
        sections.training,
        sections.strata,
        sections.settings,
    )
    body = []
    with progress("Writing the report", len(parts), "parts") as tick:
        for part in parts:
            body.append(part(metrics))
            tick()
    return _document("kitsam: kidneys, tumors and cysts", source, "".join(body))


def _document(title: str, source: str, body: str) -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head>\n"
        f'<body><main><header><h1>{escape(title)}</h1><p class="soft">{escape(source)}</p></header>\n'
        f"{body}</main></body></html>\n"
    )
