"""The names and colors of the labels as 3D Slicer reads them: a color table, which it offers for any label map."""

from pathlib import Path

from kitsam.ct.labels import CLASS_NAMES
from kitsam.system.files import write_text

COLOR_TABLE = "labels.ctbl"
# Red, green, blue: as in the overlays (`pictures/overlay.py`).
COLORS = {"kidney": (47, 214, 181), "tumor": (255, 95, 87), "cyst": (255, 210, 63)}


def write_color_table(folder: Path) -> None:
    """A file of that name is left as it is."""
    path = folder / COLOR_TABLE
    if path.exists():
        return
    lines = ["# 3D Slicer color table of kitsam's labels", "0 background 0 0 0 0"]
    lines += [
        f"{number} {name} {' '.join(map(str, COLORS[name]))} 255" for number, name in enumerate(CLASS_NAMES[1:], 1)
    ]
    write_text(path, "\n".join(lines) + "\n")
