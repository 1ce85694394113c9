"""Options of `kitsam report`."""

from dataclasses import dataclass
from pathlib import Path

from kitsam.system.options import Options


@dataclass
class ReportConfig(Options):
    """One self-contained HTML file: results, curves, worst cases, overlays."""

    folder: Path
    """folder that `kitsam evaluate` or `kitsam score` wrote"""
    out: Path | None = None
    """the HTML file; FOLDER/report.html if not given"""
