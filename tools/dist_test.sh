#!/usr/bin/env bash
# Evaluate on several GPUs (or processes on CPU) of one or more machines.
# Several machines: NNODES, NODE_RANK, MASTER_ADDR and PORT in the environment, the same command on each.
set -euo pipefail

if [ "$#" -lt 3 ]; then
    echo "usage: dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]   e.g. dist_test.sh configs/classification/NAME.py work_dirs/NAME/epoch_10.pth 4" >&2
    exit 2
fi

CONFIG=$1
CHECKPOINT=$2
GPUS=$3
shift 3
case $GPUS in
    '' | *[!0-9]* | 0)
        echo "dist_test.sh: error: GPUS must be a positive number, got '$GPUS'" >&2
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
    "$TOOLS/test.py" "$CONFIG" "$CHECKPOINT" --launcher pytorch "$@"
