"""Options of `kitsam report`."""

from dataclasses import dataclass
from pathlib import Path

from kitsam.system.errors import OptionError
from kitsam.system.options import Options, place

REPORT, COMPARISON = "report.html", "comparison.html"  # in the first folder, if not said otherwise
SINGLE_FILE_MB = 30


@dataclass
class ReportConfig(Options):
    """An evaluation as an HTML page: results, curves, every case to look at. Several: a table of them side by side."""

    folders: list[Path] = place("folder", positional=True)
    """folders that `kitsam evaluate` or `kitsam score` wrote; several are compared with the first, case by case"""
    out: Path | None = place("new file", None)
    """the HTML file; in the first folder report.html, or comparison.html of several, if not given"""
    single_file: bool = False
    """put all cases into the HTML file, with as many slices as make it 30 MB at most, instead of a page each in a
    folder beside it"""

    def check(self) -> None:
        if not self.folders:
            raise OptionError(f"{self.option('folders')}: name a folder that `kitsam evaluate` or `kitsam score` wrote")
        if self.single_file and len(self.folders) > 1:
            raise OptionError("--single_file: shows cases, which a comparison of several folders does not")

    def check_places(self) -> None:
        from kitsam.evaluation.results import JSON_NAME

        super().check_places()
        for folder in self.folders:
            if not (folder / JSON_NAME).is_file():
                hint = "run `kitsam evaluate` or `kitsam score` first"
                raise OptionError(f"{self.option('folders')}: no {JSON_NAME} in {folder}: {hint}")

    @property
    def path(self) -> Path:
        """Of the HTML file."""
        return self.out or self.folders[0] / (REPORT if len(self.folders) == 1 else COMPARISON)
