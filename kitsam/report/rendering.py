"""Pages from templates: one look and one script for the report, its cases, comparisons and experiments.

A page needs nothing beside it and no network: style, script and pictures stand in it, so it can be mailed and kept. A
browser that reads it may fetch nothing and runs no script but the page's own, known by its hash.
"""

import json
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from kitsam import __version__
from kitsam.report.viewer import MOST_LESIONS, WINDOWS, window_filter

SCRIPT = "report.js"


def page_templates(package: str | None = None) -> Environment:
    """The report's templates, and those of another package that extend them."""
    loaders = [PackageLoader(name) for name in (package, __package__) if name]
    templates = Environment(loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined)
    templates.trim_blocks = templates.lstrip_blocks = True
    templates.filters |= {"json": json.dumps, "base64": base64}
    # In JSON too bytes are base64.
    templates.policies["json.dumps_kwargs"] = {"default": base64, "separators": (",", ":")}
    script = _own_text(SCRIPT)
    templates.globals |= {
        "kitsam_version": __version__,
        "style": _own_text("report.css"),
        "script": script,
        "script_hash": sha256(script.encode()).digest(),
        "most_lesions": MOST_LESIONS,
        "windows": {name: window_filter(window) for name, window in WINDOWS.items()},
        "window_ranges": WINDOWS,
    }
    return templates


def _own_text(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


def base64(data: bytes) -> str:
    return b64encode(data).decode()
