"""Options of `kitsam report`."""

from dataclasses import dataclass
from pathlib import Path

from kitsam.system.errors import OptionError
from kitsam.system.options import Options, place


@dataclass
class ReportConfig(Options, example="kitsam report runs/results"):
    """One self-contained HTML file: results, curves, worst cases, overlays."""

    folder: Path = place("folder", positional=True)
    """folder that `kitsam evaluate` or `kitsam score` wrote"""
    out: Path | None = place("new file", None)
    """the HTML file; FOLDER/report.html if not given"""

    def check_places(self) -> None:
        super().check_places()
        from kitsam.evaluation.results import JSON_NAME  # which takes half a second

        if not (self.folder / JSON_NAME).is_file():
            hint = "run `kitsam evaluate` or `kitsam score` first"
            raise OptionError(f"{self.option('folder')}: no {JSON_NAME} in {self.folder}: {hint}")
