"""Storage that shows one process an old state, or keeps it waiting: no command ends of it, and nothing is lost.

Slow, so left out of the usual run: ten rounds of old listings, five of a server that falls silent for 90 s.
"""

import random
import signal
import sys
import time
from pathlib import Path

import pytest
import test_faults
from serving import serve
from starting import Started, end, started_ranks, steps_done, torchrun, train_arguments
from test_faults import LATEST, command, has_begun, outcome
from tiny import long_config
from trained import assert_same_run

from kitsam.shards.config import CacheConfig
from kitsam.system import transfer

pytestmark = pytest.mark.slow
world = test_faults.world
OLD_LISTING = Path(__file__).with_name("old_listing.py")
SILENCES = 3  # in a row, each as long as a transfer waits: 90 s together


@pytest.mark.parametrize("number", range(10))
def test_an_old_listing_in_one_process_changes_nothing(world, tmp_path, number):
    stage, rank = ("train", "embed", "evaluate")[number % 3], number % 2
    chance, out = random.Random(number), tmp_path / "out"
    line = command(stage, world, out if stage == "embed" else world.shards, out, tmp_path)
    with Started(line, tmp_path / "first") as started:
        started.wait_until(lambda: has_begun(out))
        time.sleep(chance.uniform(0, LATEST[stage] / 2))
        before = {*out.rglob("*")}
        time.sleep(chance.uniform(0, LATEST[stage] / 2))
        for pid in (started.process.pid, *started.ranks().values()):
            end(pid, signal.SIGKILL)
        started.wait()
    newer = {*out.rglob("*")} - before
    print(f"{stage}: process {rank} does not see {len(newer)} of {len(before) + len(newer)} files")
    words = line[line.index("kitsam") + 1 :]
    environment = {"OLD_LISTING_RANK": rank, "OLD_LISTING_HIDES": "\n".join(map(str, newer))}
    with started_ranks([sys.executable, OLD_LISTING, *words], tmp_path, **environment) as ranks:
        assert [one.wait() for one in ranks] == [0, 0], ranks[0].text[-3000:] + ranks[1].text[-3000:]
    # What the killed start left half written goes only when a start is shown it.
    complete = {name: content for name, content in outcome(stage, out).items() if ".tmp-" not in name}
    assert complete == world.outcomes[stage]


@pytest.mark.parametrize("number", range(5))
def test_a_server_that_falls_silent_ends_nobody(shards, long_run, tmp_path, number):
    with serve(shards) as server:
        server.silence = 2 * transfer.STALLED
        # A cache with room for one shard: the others are fetched again and again.
        cache = CacheConfig(tmp_path / "cache", size=1e-6, ahead=0)
        config = long_config(server.address, tmp_path / "run", cache=cache)
        with Started(torchrun(2, *train_arguments(config, tmp_path)), tmp_path / "log") as started:
            started.wait_until(lambda: steps_done(config.out) >= 2)
            again = sorted(name for name, count in server.requests.items() if name.endswith(".tar") and count > 1)
            began = time.monotonic()
            server.faults[random.Random(number).choice(again)] = ["stall"] * SILENCES
            assert started.wait(600) == 0, started.text[-3000:]
        print(f"finished {time.monotonic() - began:.0f} s after the server fell silent")
        assert time.monotonic() - began > SILENCES * transfer.STALLED * 0.9
    assert_same_run(config.out, long_run)
