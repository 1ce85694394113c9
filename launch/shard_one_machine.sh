#!/usr/bin/env bash
# Embed with all GPUs of this machine, or with PROCESSES processes, then check every byte of the shard set:
#   DATA=KITS23 SHARDS=shards/kits23 launch/shard_one_machine.sh --config configs/embed.yaml
# Started again it does what is missing. Exit 1: a case was left out, or a shard is bad; both are named.
set -euo pipefail
: "${DATA:?folder of the cases}" "${SHARDS:?folder for the shard set}"
gpus=$(if [[ ${CUDA_VISIBLE_DEVICES:-} ]]; then tr , '\n' <<<"$CUDA_VISIBLE_DEVICES"; else nvidia-smi -L 2>/dev/null; fi | wc -l) ||
    gpus=0
PROCESSES=${PROCESSES:-$((gpus > 0 ? gpus : 1))}
# Threads of each process; together no more than the cores there are.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(($(nproc) / PROCESSES > 0 ? $(nproc) / PROCESSES : 1))}
code=0
torchrun --standalone --nproc_per_node "$PROCESSES" -m kitsam embed --data "$DATA" --out "$SHARDS" "$@" || code=$?
kitsam shards verify "$SHARDS"
exit "$code"
