"""What a page would load, links to and says."""

import json
import re
from html.parser import HTMLParser


class Resources(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loaded += [value for name, value in attributes if name in ("src", "srcset", "data", "action")]
        self.links += [value for name, value in attributes if name.endswith("href")]

    def handle_data(self, data):
        self.words.append(data)


def text_of(html: str) -> str:
    """With single spaces."""
    return " ".join(" ".join(Resources(html).words).split())


def planes_of(html: str) -> list[dict]:
    """What each case's slider shows, by plane: of each slice a JPEG in base64, a caption, outlines and its index."""
    return [json.loads(text) for text in re.findall(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)]


def charts_of(html: str) -> dict[str, str]:
    """The SVG of each chart by what it says to those who cannot see it."""
    found = re.findall(r'<svg [^>]*aria-label="([^"]*)"[^>]*>.*?</svg>', html, re.DOTALL)
    pictures = re.findall(r'<svg [^>]*aria-label="[^"]*"[^>]*>.*?</svg>', html, re.DOTALL)
    return dict(zip(found, pictures))
