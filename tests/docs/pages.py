"""The project's documents, taken apart: pages, blocks of code, command lines, what stands in backquotes."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "shards/README.md")]
    + list((ROOT / "docs").rglob("*.md"))
)
RUNS = "<!-- runs in a test -->"
BLOCK = re.compile(r"^(?P<before>[^\n]*)\n```(?P<kind>\w+)[ ]?(?P<title>[^\n]*)\n(?P<text>.*?)^```$", re.M | re.S)
OPERATORS = {";", "&&", "||", "|", "&", "do", "done", "for", "then", "exec", ">", ">>"}


class Block(NamedTuple):
    """Code between fences."""

    page: Path
    kind: str  # bash, python, ...
    title: str
    text: str
    runs: bool  # in a test


def blocks(kind: str) -> list[Block]:
    return [
        Block(page, match["kind"], match["title"], match["text"], match["before"] == RUNS)
        for page in PAGES
        for match in BLOCK.finditer(page.read_text(encoding="utf-8"))
        if match["kind"] == kind
    ]


def words_of(text: str) -> Iterator[list[str]]:
    """The simple commands of some lines of bash; loops run once, with their first value."""
    first = re.search(r"^for (\w+) in (\w+)", text, re.M)
    if first:
        text = text.replace(f"${first[1]}", first[2])
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|>")
        lexer.commenters, lexer.whitespace_split = "#", True
        command: list[str] = []
        for word in [*lexer, ";"]:
            if word in OPERATORS:
                if command:
                    yield command
                command = []
            else:
                command.append(word)


def kitsam_words(command: list[str]) -> list[str] | None:
    """What a command gives to kitsam; None where it starts something else."""
    for at, word in enumerate(command):
        if Path(word).name == "kitsam" and (at == 0 or command[at - 1] == "-m" or "=" in command[0]):
            return command[at + 1 :]
        if word.startswith("launch/") and word.endswith((".sh", ".sbatch")):
            start = {"launch/shard_one_machine.sh": ["embed"], "launch/experiment.sbatch": ["experiment"]}
            return start.get(word, []) + command[at + 1 :]
    return None


def spans(page: Path) -> list[str]:
    """What stands in backquotes, outside of blocks."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]
