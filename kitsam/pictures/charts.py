"""What all charts share: a frame as wide as a phone, and the way to SVG that stands in a page.

A chart is drawn once. In its SVG the colors are the page's own (`var(--kidney)`), so that it is light on a light page,
dark on a dark one and black on paper; its text is text. A mark may have a title, which a browser shows when the pointer
rests on it. Each kind of line has its own dashes and dots, for those who see no colors and for gray printers.
"""

import re
from dataclasses import dataclass
from hashlib import sha256
from io import StringIO
from xml.etree import ElementTree

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH, HEIGHT = 3.7, 2.9  # inches
POINTS = 9  # size of text
# What a page's style sheet gives colors for, by the one that stands for it in a figure.
COLORS = {
    "ink": "#333a40",
    "grid": "#d9dee2",
    "kidney": "#0c8f78",
    "masses": "#7a4fd0",
    "tumor": "#d63a33",
    "cyst": "#a87900",
    "curve": "#2f6fdb",
}
SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
TITLED = "titled-"  # begins the id of a mark that has a title


@dataclass(frozen=True)
class Series:
    """How the line of one kind of thing looks."""

    name: str
    color: str
    marker: str
    dashes: str | tuple[int, tuple[float, ...]] = "solid"

    @property
    def style(self) -> dict[str, object]:
        return {"label": self.name, "color": self.color, "marker": self.marker, "linestyle": self.dashes}


KIDNEY = Series("kidney and masses", COLORS["kidney"], "o")
MASSES = Series("masses", COLORS["masses"], "s", (0, (5, 1.5)))
TUMOR = Series("tumor", COLORS["tumor"], "^", (0, (3, 1.2)))
CYST = Series("cyst", COLORS["cyst"], "D", (0, (1.5, 1.2)))


def new_figure(rows: int, height: float = HEIGHT) -> tuple[Figure, list[Axes]]:
    """Axes below one another; `height`: inches of the whole."""
    figure = Figure((WIDTH, height), layout="constrained", facecolor="none")
    axes = list(figure.subplots(rows, 1, squeeze=False)[:, 0])
    for part in axes:
        part.set_facecolor("none")
        part.grid(color=COLORS["grid"], linewidth=0.6)
        part.set_axisbelow(True)
        part.spines[["top", "right"]].set_visible(False)
        part.spines[["left", "bottom"]].set_color(COLORS["grid"])
        part.tick_params(colors=COLORS["ink"], labelsize=POINTS, length=0, pad=5)
        part.xaxis.label.set(color=COLORS["ink"], size=POINTS)
        part.yaxis.label.set(color=COLORS["ink"], size=POINTS)
    return figure, axes


def add_legend(axes: Axes) -> None:
    axes.figure.legend(
        loc="outside upper center", ncols=3, frameon=False, fontsize=POINTS, labelcolor=COLORS["ink"],
        handlelength=2.2, columnspacing=1.0,
    )  # fmt: skip


def dot(axes: Axes, x: float, y: float, series: Series, title: str) -> None:
    """One mark, with the title that a browser shows of it."""
    gid = f"{TITLED}{title}"
    axes.plot(
        [x], [y], color=series.color, marker=series.marker, markersize=5, alpha=0.75, markeredgewidth=0,
        linestyle="none", clip_on=False, zorder=3, gid=gid,
    )  # fmt: skip


def to_svg(figure: Figure, alt: str) -> str:
    """The element to put into a page. `alt`: what it shows, for those who cannot see it."""
    buffer = StringIO()
    # Ids within the picture come from its salt: two pictures of a page must not have the same.
    salt = sha256(alt.encode("utf-8", "backslashreplace")).hexdigest()[:12]
    style = {"svg.fonttype": "none", "svg.hashsalt": salt, "font.family": ["sans-serif"]}
    with matplotlib.rc_context(style):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    root = ElementTree.fromstring(buffer.getvalue())
    for number, element in enumerate(root.iter()):
        _clean(element, f"{salt}-{number}")
    root.attrib.pop("height")
    root.attrib |= {"width": "100%", "role": "img", "aria-label": alt}
    return _with_colors(ElementTree.tostring(root, "unicode"))


def _clean(element: ElementTree.Element, own_id: str) -> None:
    """Titles to the marks that have one; without the ids that nothing refers to."""
    name = element.get("id", "")
    if name.startswith(TITLED):
        title = ElementTree.Element(f"{{{SVG}}}title")
        title.text = name.removeprefix(TITLED)
        element.insert(0, title)
    if element.tag in (f"{{{SVG}}}g", f"{{{SVG}}}svg"):
        element.attrib.pop("id", None)
    for metadata in element.findall(f"{{{SVG}}}metadata"):
        element.remove(metadata)


def _with_colors(svg: str) -> str:
    """With the page's colors for those of the figure; sizes of text are the page's too."""
    names = {color: name for name, color in COLORS.items()}
    return re.sub("|".join(names), lambda found: f"var(--{names[found[0]]})", svg)
