#!/usr/bin/env bash
# Starts or resumes a run of the papers' size on all GPUs of a machine, under torchrun:
#
#     bash tests/benchmarks/paper_scale.sh cifar10.npz runs/cifar10 --preset cifar10
#
# Further arguments are options of `drl-density fit`. PROCESSES is the number of GPUs, DEVICE their kind, PYTHON the interpreter.
# The batch of a preset has to be divisible by PROCESSES. A process that dies is restarted, and the same command resumes a run.
set -euo pipefail
data=$1 run=$2
shift 2
python=${PYTHON:-python} device=${DEVICE:-cuda}
processes=${PROCESSES:-$("$python" -c "import torch; print(max(torch.cuda.device_count(), 1))")}
exec "$python" -m torch.distributed.run --standalone --nproc-per-node "$processes" --max-restarts 3 \
    -m drl_density.cli fit "$data" --out "$run" --device "$device" "$@"
