#!/usr/bin/env bash
# Train on several GPUs (or processes on CPU) of one or more machines.
# Several machines: NNODES, NODE_RANK, MASTER_ADDR and PORT in the environment, the same command on each.
set -euo pipefail

if [ "$#" -lt 2 ]; then
    echo "usage: dist_train.sh CONFIG GPUS [options of tools/train.py]   e.g. dist_train.sh configs/classification/NAME.py 4 --amp" >&2
    exit 2
fi

CONFIG=$1
GPUS=$2
shift 2
case $GPUS in
    '' | *[!0-9]* | 0)
        echo "dist_train.sh: error: GPUS must be a positive number, got '$GPUS'" >&2
        exit 2
        ;;
esac

TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH="$(dirname "$TOOLS")${PYTHONPATH:+:$PYTHONPATH}"

exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$GPUS" \
    "$TOOLS/train.py" "$CONFIG" --launcher pytorch "$@"
