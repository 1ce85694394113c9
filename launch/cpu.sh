#!/usr/bin/env bash
# Any kitsam command on several CPU processes of this machine:
#   PROCESSES=2 launch/cpu.sh train --config configs/small/roi.yaml --shards shards/small --out runs/small/roi
# (`accelerate launch --cpu` would start one process, whatever number it is given.)
set -euo pipefail
PROCESSES=${PROCESSES:-2}
# Threads of each process; together no more than the cores there are.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(($(nproc) / PROCESSES > 0 ? $(nproc) / PROCESSES : 1))}
exec torchrun --standalone --nproc_per_node "$PROCESSES" -m kitsam "$@"
