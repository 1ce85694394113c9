"""Two processes do what one does, and say it as one; two commands do not write to one folder."""

import re
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starting import Started, end, finish, started_ranks, steps_done, torchrun, train_arguments
from tiny import EMBED_WORDS, long_config
from trained import assert_same_run, break_at

from kitsam.cli import main
from kitsam.training import loop
from kitsam.training.checkpoint import checkpoints

OLD_LISTING = Path(__file__).with_name("old_listing.py")


@pytest.fixture(scope="module")
def bundle(runs, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "kidney.safetensors"
    assert main(["bundle", "--roi", str(runs["roi"]), "--out", str(path)]) == 0
    return path


@pytest.fixture
def scans(data, tmp_path) -> list[Path]:
    """Four, one of which is cut short."""
    scans = [tmp_path / f"scan{number}.nii.gz" for number in range(4)]
    for number, scan in enumerate(scans):
        content = (data / f"case_{number:05d}" / "imaging.nii.gz").read_bytes()
        scan.write_bytes(content[: len(content) // 2] if number == 1 else content)
    return scans


@contextmanager
def paused(pid: int) -> Iterator[None]:
    """The process stands still in this block, so that it is not over before the other has begun."""
    end(pid, signal.SIGSTOP)
    yield
    end(pid, signal.SIGCONT)


def results(text: str) -> list[str]:
    """Without the head, which says how many processes there are, and without progress."""
    return [line for line in text.splitlines() if "Encoding" not in line and not line.startswith("# ")]


def without_doubts(lines: Iterable[str]) -> list[str]:
    """Without what is not plausible about kidneys of a few voxels."""
    return [line for line in lines if not re.match(r"warning: scan\d: ", line)]


def test_two_processes_label_what_one_does_and_say_the_same(bundle, scans, tmp_path, capfd):
    words = ["predict", *map(str, scans), "--model", str(bundle), "--device", "cpu", "--out"]
    assert main([*words, str(tmp_path / "one")]) == 1
    one = capfd.readouterr()
    with started_ranks([sys.executable, "-m", "kitsam", *words, tmp_path / "two"], tmp_path) as ranks:
        assert [started.wait() for started in ranks] == [1, 1]
        main_text, other_text = (started.text for started in ranks)
    said = results(one.out + one.err)
    assert (
        len(without_doubts(said)) == 7
    )  # what the model is, three scans, the bad one, the tables, and what is left out
    two = results(main_text.replace(str(tmp_path / "two"), str(tmp_path / "one")))
    assert "# processes: 2" in main_text and sorted(two) == sorted(said)
    assert not other_text
    lines = without_doubts(two)
    assert [re.search(r"scan\d", line)[0] for line in lines[1:5]] == [f"scan{number}" for number in range(4)]
    for folder in ("one", "two"):
        with open(tmp_path / folder / "volumes.csv") as file:
            assert {line.split(",")[0] for line in file} == {"scan", "scan0", "scan2", "scan3"}
    assert sorted(path.name for path in (tmp_path / "two").glob("*.nii.gz")) == [
        f"scan{number}.nii.gz" for number in (0, 2, 3)
    ]


def test_a_second_training_in_a_folder_is_refused_and_the_first_goes_on(shards, long_run, tmp_path):
    config = long_config(shards, tmp_path / "run")
    words = train_arguments(config, tmp_path)
    with Started(torchrun(2, *words), tmp_path / "first") as first:
        first.wait_until(lambda: steps_done(config.out) >= 2)
        with paused(first.ranks()[0]), started_ranks([sys.executable, "-m", "kitsam", *words], tmp_path) as second:
            assert [started.wait() for started in second] == [2, 2]
            text = "".join(started.text for started in second)
        assert text.count("error:") == 1 and f"--out: {config.out}: process {first.ranks()[0]} on" in text
        assert first.wait() == 0, first.text[-3000:]
    assert_same_run(config.out, long_run)


def test_a_second_embed_in_a_folder_is_refused_and_the_first_goes_on(data, tmp_path):
    words = ["kitsam", "embed", *EMBED_WORDS, "--views.count=12", "--data", data, "--out", tmp_path / "set"]
    with Started(words, tmp_path / "first") as first:
        first.wait_until(lambda: list(tmp_path.glob("set/train/.tmp-*")))
        with paused(first.process.pid), Started(words, tmp_path / "second") as second:
            assert second.wait() == 2 and "writes there" in second.text
        assert first.wait() == 0, first.text[-3000:]
    assert "All good" in finish(["kitsam", "shards", "verify", tmp_path / "set"], tmp_path / "verify")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_sees_an_old_listing_goes_on_with_the_others(shards, long_run, tmp_path, rank):
    config = long_config(shards, tmp_path / "run")
    with break_at(12):
        loop.run(config)
    newest = checkpoints(config.out)[-1]
    assert len(checkpoints(config.out)) > 1
    environment = {"OLD_LISTING_RANK": rank, "OLD_LISTING_HIDES": newest}
    with started_ranks(
        [sys.executable, OLD_LISTING, *train_arguments(config, tmp_path)], tmp_path, **environment
    ) as ranks:
        assert [started.wait() for started in ranks] == [0, 0], ranks[0].text[-3000:]
        step = int(newest.name.removeprefix("step-"))
        assert (f"Going on after step {step}" in ranks[0].text) == (rank == 1)
    assert_same_run(config.out, long_run)
