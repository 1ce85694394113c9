"""Options of `kitsam view`."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from kitsam.system.errors import OptionError
from kitsam.system.options import Device, Options, check_place, number, place, positional

INSTALL = 'pip install "kitsam[view]"'
ENDINGS = (".nii.gz", ".nii")


@dataclass
class ViewConfig(Options, example="kitsam view scan.nii.gz --labels labels/scan.nii.gz"):
    """Look at a scan in the browser and correct its labels with boxes. The page is served to this machine alone."""

    scan: Path = positional()
    """CT volume (.nii.gz, .nii, .nrrd, .mha, ...), folder of a DICOM series, or KiTS case folder"""
    labels: Path | None = place("file", None)
    """label map to begin with, as `kitsam predict` writes it; it is never changed"""
    model: Path | None = None
    """what finds labels in a box: the name of an encoder whose checkpoint has a decoder, or a bundle of
    `kitsam bundle`; lite_medsam if its weights are there and none is given"""
    out: Path | None = place("new file", None)
    """.nii.gz file to save the labels to; if not given, NAME_labels.nii.gz beside the labels or the scan"""
    port: int = number(0, least=0, most=65535)
    """of the page's address; 0: any that is free"""
    no_browser: bool = False
    """only print the page's address, open no browser"""
    device: Device = "auto"
    """auto: a GPU if there is one"""

    def check(self) -> None:
        if self.out and not self.out.name.lower().endswith(ENDINGS):
            raise OptionError(f"{self.option('out')}: a label map is a .nii.gz or .nii file, not {self.out.name}")

    def check_places(self) -> None:
        from kitsam.ct.scan_files import find_files
        from kitsam.inference.config import names_checkpoint

        if missing := [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]:
            raise OptionError(f"{' and '.join(missing)} not installed, which the viewer needs: {INSTALL}")
        scans = find_files(self.scan, self.option("scan"))
        if len(scans) > 1:
            names = ", ".join(str(scan.path) for scan in scans[:3])
            raise OptionError(f"{self.option('scan')}: {self.scan}: holds {len(scans)} scans, give one: {names}...")
        super().check_places()
        if self.model and not names_checkpoint(self.model):
            check_place(self.option("model"), self.model, "file")
        if self.out and self.out.exists():
            raise OptionError(f"{self.option('out')}: {self.out} is there already, and kept: choose another")
