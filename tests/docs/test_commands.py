"""Every command in the documents is one: it is there, takes these options with these values, and its files exist."""

import configparser
import re
import shlex

import pytest
from options_page import options_class
from pages import PAGES, ROOT, blocks, kitsam_words, spans, words_of

from kitsam.cli import COMMANDS
from kitsam.system.command_line import option_texts, read_command_line

NEEDS = re.compile(r'title="needs (KiTS23|SLURM|KiTS23 and a GPU|scans with labels)"')
EXTRAS = configparser.ConfigParser()
EXTRAS.read(ROOT / "setup.cfg")
# Of other programs, or of a file's own lines.
OTHERS = {
    "--extra-index-url", "--config_file", "--num_processes", "--mixed_precision", "--max_restarts", "--standalone",
    "--nproc_per_node", "--cpus-per-task", "--nodes", "--gpus-per-node", "--shm-size", "--cpu", "--logdir", "--strict",
    "--help", "--config", "--build-arg",
}  # fmt: skip
COMMAND_LINES = [
    pytest.param(words, id=f"{block.page.name}: {' '.join(words)[:60]}")
    for block in blocks("bash")
    for command in words_of(block.text)
    if (words := kitsam_words(command)) is not None
]


def command_of(words: list[str]) -> str | None:
    return next((name for name in (" ".join(words[:2]), *words[:1]) if name in COMMANDS), None)


def plain(option: str) -> str:
    """`--dry-run` and `--dry_run` are one."""
    return option.lstrip("-").replace("-", "_")


def options_of(name: str) -> set[str]:
    texts = option_texts(f"kitsam {name}", options_class(name))
    return {plain(text.name) for section in texts.values() for text in section}


ALL_OPTIONS = {option for name in COMMANDS for option in options_of(name)}


def test_there_are_commands():
    assert len(COMMAND_LINES) > 50


@pytest.mark.parametrize("words", COMMAND_LINES)
def test_a_line_of_a_block_is_understood(words, monkeypatch):
    monkeypatch.chdir(ROOT)  # the recipes lie there
    name = command_of(words)
    assert name, words
    if name == "embed" and "--data" not in words:  # launch/shard_one_machine.sh gives both
        words += ["--data", "KITS23", "--out", "SHARDS"]
    read_command_line(f"kitsam {name}", options_class(name), words[len(name.split()) :])


@pytest.mark.parametrize("block", blocks("bash"), ids=lambda block: f"{block.page.name}: {block.text[:40]!r}")
def test_a_block_says_what_it_needs(block):
    needs = re.search(r"\bKITS23\b|\bSLICES\b|\bsbatch\b|vit_b\b", block.text)
    if block.title or needs:
        assert NEEDS.fullmatch(block.title), f"{block.page}: {block.text}"
    if "KITS23" in block.text and "sbatch" not in block.text:
        assert "KiTS23" in block.title
    for variable in ("KITS23", "SLICES"):
        if variable in block.text:
            assert re.search(rf"`{variable}`(?s:.)*(kits23|\bKiTS)", block.page.read_text()), "where does it come from?"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_stands_in_backquotes_exists(page):
    if page.name == "CHANGELOG.md":
        return  # what was
    for span in spans(page):
        if span.startswith("kitsam "):
            words = shlex.split(re.sub(r"[\[\]]|\.\.\.", " ", span))[1:]
            name = command_of(words)
            assert name or words[0] in ("COMMAND", "bench", "--help"), f"{page}: {span}"
            used = {plain(word.partition("=")[0]) for word in words if word.startswith("--")}
            assert used <= (options_of(name) if name else ALL_OPTIONS) | {"help", "config"}, f"{page}: {span}"
        for option in re.findall(r"(?<![\w-])--[a-z][\w.-]*", span):
            assert option in OTHERS or plain(option) in ALL_OPTIONS, f"{page}: {option}"
        if match := re.match(r"((?:configs|launch|examples|kitsam|docs/make|tests)/[\w./-]+)", span):
            assert (ROOT / match[1]).exists() or "*" in span or page.name == "options.md", f"{page}: {span}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_extras_exist_and_no_path_is_somebodys_own(page):
    text = page.read_text(encoding="utf-8")
    for extra in re.findall(r"\.\[(\w+)\]", text):
        assert extra in EXTRAS["options.extras_require"], extra
    assert not re.search(r"(?<![\w.])(/work|/tmp|/home|/root)\b|\.\./shared", text)
