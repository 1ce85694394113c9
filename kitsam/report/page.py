"""`kitsam report`: everything about an evaluation in one HTML file.

The file needs nothing beside it and no network: style, script and pictures stand in it, so it can be mailed and kept. Results
come first, then the cases that explain them, then how the decoders were trained, and last what it was all made with.
"""

import base64
import hashlib
from html import escape

from kitsam.evaluation.compare import Comparison, read_comparison
from kitsam.evaluation.results import Metrics, read_metrics
from kitsam.report import sections
from kitsam.report.config import ReportConfig
from kitsam.report.examples import example_cases
from kitsam.report.style import CSS
from kitsam.report.viewer import SCRIPT
from kitsam.system.console import progress, say
from kitsam.system.files import write_text

FILE_NAME = "report.html"
# A browser that reads the page may fetch nothing, and may run its own script alone.
SCRIPT_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
POLICY = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{SCRIPT_HASH}'"


def run(config: ReportConfig) -> int:
    metrics = read_metrics(config.folder)
    path = config.out or config.folder / FILE_NAME
    write_text(path, page(metrics, read_comparison(config.folder), str(config.folder.absolute())))
    say(f"Wrote {path}")
    return 0


def page(metrics: Metrics, comparison: Comparison | None, source: str) -> str:
    parts = (
        sections.results,
        lambda _: sections.comparison(comparison),
        sections.lesions,
        example_cases,
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
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><meta name="color-scheme" content="light dark">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head>\n"
        f'<body><main><header><h1>{escape(title)}</h1><p class="soft">{escape(source)}</p></header>\n'
        f"{body}</main><script>{SCRIPT}</script></body></html>\n"
    )
