"""`kitsam report`: everything about an evaluation in one HTML file.

The file needs nothing beside it and no network: style, script and pictures stand in it, so it can be mailed and kept.
A section is a function of `sections.py` and the template of its name. A browser that reads the page may fetch nothing
and runs no script but the page's own, known by its hash.
"""

import json
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from kitsam.evaluation.compare import read_comparison
from kitsam.evaluation.results import JSON_NAME, Metrics, read_metrics
from kitsam.report.config import ReportConfig
from kitsam.report.runs import runs_by_name
from kitsam.report.sections import SECTIONS
from kitsam.system.console import progress, say
from kitsam.system.files import write_text
from kitsam.system.outputs import files_in, refuse_overwriting

FILE_NAME = "report.html"


def run(config: ReportConfig) -> int:
    metrics, comparison = read_metrics(config.folder), read_comparison(config.folder)
    path = config.out or config.folder / FILE_NAME
    refuse_overwriting([path], _inputs(config, metrics))
    templates, sections = _templates(), []
    templates.globals |= {"metrics": metrics, "comparison": comparison, "metrics_file": JSON_NAME}
    with progress("Writing the report", len(SECTIONS), "sections") as tick:
        for section in SECTIONS:
            sections.append(templates.get_template(f"{section.__name__}.html").render(section(metrics)))
            tick()
    style, script = (files(__package__).joinpath(f"report.{kind}").read_text("utf-8") for kind in ("css", "js"))
    values = {"folder": config.folder.absolute(), "sections": sections, "style": style, "script": script}
    values["script_hash"] = sha256(script.encode()).digest()
    write_text(path, templates.get_template("page.html").render(values))
    say(f"Wrote {path}")
    return 0


def _inputs(config: ReportConfig, metrics: Metrics) -> Iterator[Path]:
    """What a report may be written from: all but other reports."""
    settings = metrics.settings
    named = [settings.get(name) for name in ("data", "predictions", "shards", "against")]
    for folder in (config.folder, *named, *runs_by_name(settings).values()):
        if isinstance(folder, (str, Path)):
            yield from (path for path in files_in(Path(folder)) if path.suffix != ".html")


def _templates() -> Environment:
    templates = Environment(loader=PackageLoader(__package__), autoescape=True, undefined=StrictUndefined)
    templates.trim_blocks = templates.lstrip_blocks = True
    templates.filters |= {"json": json.dumps, "base64": lambda data: b64encode(data).decode()}
    # In JSON too bytes are base64.
    templates.policies["json.dumps_kwargs"] = {"default": templates.filters["base64"]}
    return templates
