"""`python docs/make/options_page.py` writes docs/options.md: every option of every command, from their parsers.

A test compares the page with what this would write.
"""

from importlib import import_module
from pathlib import Path

from kitsam.cli import COMMANDS
from kitsam.system.command_line import OptionText, option_texts
from kitsam.system.options import Options, limits_text

PAGE = Path(__file__).parents[1] / "options.md"
HEAD = """# Every option

This page is made from the command line's own parsers by `python docs/make/options_page.py`; `kitsam COMMAND --help`
says the same. An option is given on the command line or, without its dashes, in a YAML file; what stands before the dot
is a table there. The command line rules over the file.

```yaml
# kitsam embed --config FILE --data DATA --out SHARDS
encoder: {name: lite_medsam}
batch_size: 8
```

`-` and `_` in an option mean the same; a file has `_`. What is `off` is switched on by the option alone, in a file by
`true`.
"""


def page() -> str:
    parts = [HEAD]
    for name in COMMANDS:
        sections = option_texts(f"kitsam {name}", options_class(name))
        parts.append(f"\n## kitsam {name}\n")
        for number, (title, options) in enumerate(sections.items()):
            parts.append(f"\n{'**' if number else ''}{_plain(title)}{'**' if number else ''}\n\n{_table(options)}")
    return "".join(parts)


def options_class(command: str) -> type[Options]:
    module, name = COMMANDS[command].config.split(":")
    return getattr(import_module(f"kitsam.{module}"), name)


def _table(options: list[OptionText]) -> str:
    rows = [
        f"| `{one.name.replace('_', '-')}` | {_cell(_values(one))} | {_cell(one.default)} | {_cell(one.text)} |"
        for one in options
    ]
    return "\n".join(["| option | value | default | |", "|---|---|---|---|", *rows, ""])


def _values(one: OptionText) -> str:
    return ", ".join(filter(None, (one.values, limits_text(one.field))))


def _cell(text: str) -> str:
    """No column ends inside, and what looks like HTML stays text."""
    return _plain(text).replace("|", "\\|")


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
