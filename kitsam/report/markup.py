"""Small pieces of HTML. Text that a function is given is escaped; `parts` are markup already."""

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from io import BytesIO

from matplotlib.figure import Figure

from kitsam.pictures.plots import DARK, LIGHT, Theme

# Twice the pixels of a common screen, for those that have them.
DOTS_PER_INCH = 220


def paragraph(text: str, soft: bool = False) -> str:
    return f"<p{_class('soft' if soft else '')}>{escape(text)}</p>"


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


def section(title: str, *parts: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def card(*parts: str, kind: str = "") -> str:
    return f"<div{_class(f'card {kind}'.strip())}>{''.join(parts)}</div>"


def heading(text: str) -> str:
    return f"<h3>{escape(text)}</h3>"


def grid(kind: str, parts: Sequence[str]) -> str:
    """Parts side by side where there is room."""
    return f'<div class="{kind}">{"".join(parts)}</div>' if parts else ""


def warning(text: str, items: Iterable[str] = ()) -> str:
    entries = "".join(f"<li>{escape(item)}</li>" for item in items)
    listed = f"<ul>{entries}</ul>" if entries else ""
    return f'<div class="warning">{escape(text)}{listed}</div>'


def tile(label: str, value: str, below: str) -> str:
    small = f'<span class="soft">{escape(below)}</span>'
    return card(f"<span>{escape(label)}</span><b>{escape(value)}</b>{small}", kind="tile")


def legend(entries: Iterable[tuple[str, str, bool]]) -> str:
    """Name, color and whether the line is dashed, of each."""
    items = "".join(
        f'<li><i{_class("dashed" if dashed else "")} style="color:{color}"></i>{escape(name)}</li>'
        for name, color, dashed in entries
    )
    return f'<ul class="legend">{items}</ul>'


class Bar(float):
    """A number from 0 to 1 that a table shows with a bar behind it."""


Cell = str | Bar


def table(head: Sequence[str], rows: Iterable[Sequence[Cell]], cards: bool = False, rule_after: int = 0) -> str:
    """With `cards` a row becomes a card on a phone; after row `rule_after` comes a heavier line."""
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    body = "".join(
        f"<tr{_class('rule' if number == rule_after else '')}>{''.join(map(_cell, head, row))}</tr>"
        for number, row in enumerate(rows, start=1)
    )
    return f"<table{_class('cards' if cards else '')}><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


def _cell(title: str, value: Cell) -> str:
    label = f'data-label="{escape(title)}"'
    if isinstance(value, Bar):
        return f'<td class="bar" style="--share:{value:.3f}" {label}>{value:.3f}</td>'
    return f"<td {label}>{escape(value)}</td>"


def definitions(values: Mapping[str, str]) -> str:
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(value)}</dd>' for name, value in values.items())}</dl>"


def folded(title: str, text: str) -> str:
    return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"


def picture(png: bytes, alt: str, caption: str) -> str:
    return (
        f'<figure><img alt="{escape(alt)}" src="{_data_uri(png)}"><figcaption>{escape(caption)}</figcaption></figure>'
    )


def plot(title: str, draw: Callable[[Theme], Figure], caption: str) -> str:
    """The plot twice, of which the reader's system shows the light or the dark one."""
    light, dark = (_data_uri(_png(draw(theme))) for theme in (LIGHT, DARK))
    return card(
        heading(title),
        f'<figure><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">',
        f'<img alt="{escape(title)}" src="{light}"></picture>',
        f"<figcaption>{escape(caption)}</figcaption></figure>",
    )


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
