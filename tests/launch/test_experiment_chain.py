"""`launch/experiment.sbatch`: which jobs it submits, and what each of them does.

A stub for `sbatch` writes down what it is given and answers with a number; one for kitsam, what it is asked.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from starting import LAUNCH

STUBS = {
    "sbatch": '#!/bin/sh\necho "$*" >> "$ASKED"; echo $((100 + $(wc -l < "$ASKED")))\n',
    "kitsam": """#!/bin/bash
echo "kitsam $*" >> "$ASKED"
trap "exit 130" TERM
for ((i = 0; i < ${SECONDS_OF_WORK:-0} * 10; i++)); do sleep 0.1; done
""",
    "scontrol": '#!/bin/sh\necho "scontrol $*" >> "$ASKED"\n',
}
WORDS = ["e.yaml", "--data", "DATA", "--out", "OUT"]


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    for name, text in STUBS.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    own = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    return {**own, "PATH": f"{tmp_path}:{os.environ['PATH']}", "ASKED": str(tmp_path / "asked")}


def asked(environment: dict[str, str]) -> list[str]:
    path = Path(environment["ASKED"])
    return path.read_text().splitlines() if path.exists() else []


def test_on_the_login_node_it_submits_a_chain(environment):
    script = LAUNCH / "experiment.sbatch"
    environment |= {"SHARES": "4", "OPTIONS": "--partition=gpu --time=1:00:00"}
    result = subprocess.run([script, *WORDS], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == "jobs: embed 101, train 102, evaluate 103, table 104\n"
    words, common = " ".join(WORDS), "--parsable --partition=gpu --time=1:00:00"
    assert asked(environment) == [
        f"{common} {script} embed {words}",
        f"{common} --dependency=afterok:101 --array=1-4 {script} train {words}",
        f"{common} --dependency=afterany:102 --array=1-4 {script} evaluate {words}",
        f"{common} --dependency=afterany:103 {script} table {words}",
    ]


def test_a_job_does_its_part_and_its_share(environment):
    array = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "3"}
    command = ["bash", LAUNCH / "experiment.sbatch"]
    assert subprocess.run([*command, "train", *WORDS], env=environment | array, check=False).returncode == 0
    assert (
        subprocess.run([*command, "table", *WORDS], env=environment | {"SLURM_JOB_ID": "8"}, check=False).returncode
        == 0
    )
    words = " ".join(WORDS)
    assert asked(environment) == [
        f"kitsam experiment {words} --part train --share 2/3",
        f"kitsam experiment {words} --part table --share 1/1",
    ]


def test_a_job_that_is_taken_off_lets_its_runs_save_and_is_queued_again(environment):
    environment |= {"SLURM_JOB_ID": "9", "SECONDS_OF_WORK": "60"}
    process = subprocess.Popen(["bash", LAUNCH / "experiment.sbatch", "train", *WORDS], env=environment)
    while not asked(environment):
        time.sleep(0.05)
    time.sleep(0.5)  # until the stub heeds signals
    process.send_signal(signal.SIGUSR1)
    assert process.wait(30) == 0
    assert asked(environment)[1:] == ["scontrol requeue 9"]
