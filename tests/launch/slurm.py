"""SLURM's commands as they behave to a job with one task a node, all nodes on this machine."""

import sys
from pathlib import Path

# The options of the script and then of the line become the job's variables; the script runs from a copy.
SBATCH = r"""#!/usr/bin/env python
import os, pathlib, shutil, sys

words = sys.argv[1:]
script = next(place for place, word in enumerate(words) if not word.startswith("--"))
text = pathlib.Path(words[script]).read_text()
own = [line.split()[1] for line in text.splitlines() if line.startswith("#SBATCH ")]
options = dict(word.removeprefix("--").partition("=")[::2] for word in (*own, *words[:script]))
copy = shutil.copy(words[script], pathlib.Path(__file__).with_name("slurm_script"))
os.environ |= {
    "SLURM_JOB_ID": "77",
    "SLURM_JOB_NODELIST": "node[1-2]",
    "SLURM_JOB_NUM_NODES": options["nodes"],
    "SLURM_CPUS_PER_TASK": options["cpus-per-task"],
    "SLURM_GPUS_ON_NODE": options["gpus-per-node"],
}
os.execvp("bash", ["bash", copy, *words[script + 1 :]])
"""

# A task gets one core unless srun itself is told of more, whatever sbatch was told; signals go on to every task.
SRUN = r"""#!/usr/bin/env bash
echo "srun $*" >> "$STUB_LOG"
count=${SRUN_CPUS_PER_TASK:-1}
while [[ $1 == --* ]]; do
    if [[ $1 == --cpus-per-task=* ]]; then count=${1#*=}; fi
    shift
done
cores=$(python -c "import os; print(*sorted(os.sched_getaffinity(0))[:$count], sep=',')")
tasks=()
for ((node = 0; node < SLURM_JOB_NUM_NODES; node++)); do
    SLURM_NODEID=$node SLURM_PROCID=$node taskset -c "$cores" "$@" & tasks+=($!)
done
trap 'kill -USR1 "${tasks[@]}"; again=1' USR1
again=1
while [[ $again ]]; do again= code=0; for task in "${tasks[@]}"; do wait $task || code=$?; done; done
exit $code
"""

SCONTROL = r"""#!/usr/bin/env bash
echo "scontrol $*" >> "$STUB_LOG"
if [[ $1 == show ]]; then printf '127.0.0.1\nother-node\n'; fi
"""


def install(folder: Path, **commands: str) -> str:
    """Put SLURM's commands, and others by their text, into a folder. Returns a PATH that begins with it."""
    folder.mkdir()
    for name, text in {"sbatch": SBATCH, "srun": SRUN, "scontrol": SCONTROL, **commands}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return f"{folder}:{Path(sys.executable).parent}"
