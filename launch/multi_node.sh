#!/usr/bin/env bash
# Any kitsam command on several machines. The same line on each, with its own RANK:
#   HOST=10.0.0.1 RANK=0 NODES=2 PROCESSES=8 launch/multi_node.sh train --config configs/roi.yaml ...
# Where a machine has several networks, name the one to use in GLOO_SOCKET_IFNAME (CPU) or NCCL_SOCKET_IFNAME (GPU).
# SIGUSR1 has a training run save and end, exit code 0.
set -euo pipefail
: "${HOST:?address of the machine of rank 0, as the others reach it}"
RANK=${RANK:-${SLURM_NODEID:?or RANK: number of this machine, 0 on HOST}}
PORT=${PORT:-29500}         # free on HOST
NODES=${NODES:-2}           # machines
PROCESSES=${PROCESSES:-gpu} # on each machine; gpu: one for each GPU
RESTARTS=${RESTARTS:-3}     # how often a run that lost a process goes on by itself
WAIT=${WAIT:-600}           # seconds that machines wait for each other
# Under which the others reach this machine: the one from which it reaches HOST.
ADDRESS=${ADDRESS:-$(
    python -c "import socket as s; u = s.socket(type=s.SOCK_DGRAM); u.connect(('$HOST', 1)); print(u.getsockname()[0])"
)}
# Or a run that is started again would be given the addresses of the processes that died (pytorch#135712).
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
# Threads of each process; together no more than the cores there are for it. torchrun itself would take 1.
gpus=$(if [[ ${CUDA_VISIBLE_DEVICES:-} ]]; then tr , '\n' <<<"$CUDA_VISIBLE_DEVICES"; else nvidia-smi -L 2>/dev/null; fi | wc -l) ||
    gpus=0
here=$PROCESSES
if [[ $here == *[!0-9]* ]]; then here=$gpus; fi
share=$((here > 0 ? $(nproc) / here : 1))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((share > 0 ? share : 1))}

processes() { # those at work; a dead one stays torchrun's child until it looks
    for pid in $(cat "/proc/$launcher/task/$launcher/children"); do
        grep -qs "^State:.[^Z]" "/proc/$pid/status" && echo "$pid"
    done
}

# SIGUSR1 goes to the processes, which save and end: torchrun would die of it. SIGTERM torchrun hands on itself.
trap 'kill -USR1 $(processes) || true' USR1
trap 'kill -TERM $launcher' TERM INT
(
    trap '' USR1
    exec torchrun --nnodes "$NODES" --nproc_per_node "$PROCESSES" --max_restarts "$RESTARTS" --local_addr "$ADDRESS" \
        --rdzv_backend c10d --rdzv_id kitsam --rdzv_endpoint "$HOST:$PORT" \
        --rdzv_conf "is_host=$((RANK == 0)),join_timeout=$WAIT" -m kitsam "$@"
) &
launcher=$!

# torchrun asks HOST how things are, and has no limit for its answer where the network is gone.
alone=0
while kill -0 $launcher 2>/dev/null; do
    sleep 1 || true
    if [[ $(processes 2>/dev/null || true) ]]; then alone=0; else alone=$((alone + 1)); fi
    if ((alone == WAIT + 30)); then
        echo "multi_node.sh: $HOST does not answer: the same command goes on from what is saved" >&2
        kill -KILL $launcher
    fi
done
code=0
wait $launcher || code=$?
exit "$code"
