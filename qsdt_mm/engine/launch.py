"""Processes that train together, on machines with and without GPUs."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from mmengine.config import Config

from qsdt_mm.errors import InputError


def is_main_process() -> bool:
    """Return whether this process is the main one, before any process group exists."""
    for name in ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'):
        if name in os.environ:
            return os.environ[name] == '0'
    return True


def _export(rank: str, world_size: str, local_rank: str) -> None:
    for name, source in (('RANK', rank), ('WORLD_SIZE', world_size), ('LOCAL_RANK', local_rank)):
        if source not in os.environ:
            raise InputError(
                f'--launcher needs the environment variable {source}; start through tools/dist_train.sh, srun or mpirun'
            )
        os.environ[name] = os.environ[source]


def _dicts(value: Any) -> Iterator[dict]:
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from _dicts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _dicts(item)


def prepare_launcher(cfg: Config, launcher: str) -> list[str]:
    """Make a configuration ready for ``launcher``; without a GPU, join the processes over gloo.

    mmengine assigns every process a GPU. Where there is none the group is made here first, the model is
    wrapped without device ids, and batch norm is synchronised in a way that needs no GPU.

    Args:
        cfg: The configuration; changed in place.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.

    Returns:
        Remarks for the user.

    Raises:
        InputError: The environment lacks what the launcher sets.
    """
    cfg.launcher = launcher
    if launcher == 'none':
        return []
    if launcher == 'pytorch':
        _export('RANK', 'WORLD_SIZE', 'LOCAL_RANK')
    if torch.cuda.is_available():
        return []
    if launcher == 'slurm':
        _export('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID')
        if 'MASTER_ADDR' not in os.environ:
            nodes = os.environ.get('SLURM_NODELIST', 'localhost')
            if re.search(r'[\[,]', nodes):
                shown = subprocess.run(['scontrol', 'show', 'hostnames', nodes], capture_output=True, text=True)
                nodes = shown.stdout.split()[0]
            os.environ['MASTER_ADDR'] = nodes
    elif launcher == 'mpi':
        _export('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_RANK')
        os.environ.setdefault('MASTER_ADDR', '127.0.0.1')
    os.environ.setdefault('MASTER_PORT', '29500')
    if not dist.is_initialized():
        dist.init_process_group('gloo')
    wrapper = dict(cfg.get('model_wrapper_cfg') or {})
    wrapper.setdefault('type', 'CpuDistributedDataParallel')
    kind = wrapper['type'] if isinstance(wrapper['type'], str) else wrapper['type'].__name__
    if kind != 'FullyShardedModel':
        wrapper.setdefault('broadcast_buffers', False)
        wrapper.setdefault('find_unused_parameters', cfg.get('find_unused_parameters', False))
        wrapper['device_ids'] = None
    remarks = [f'no GPU: {dist.get_world_size()} processes on CPU, joined over gloo']
    wanted = cfg.get('sync_bn') is not None
    cfg.sync_bn = None
    for node in _dicts(cfg._cfg_dict.get('model')):
        if node.get('type') in ('SyncBN', 'MMSyncBN', 'SyncBatchNorm', 'NaiveSyncBatchNorm'):
            node['type'] = 'BN'
            wanted = True
    if wanted and kind in ('CpuDistributedDataParallel', 'FullyShardedModel'):
        wrapper['sync_bn'] = True
    elif wanted:
        remarks.append(f'batch norm is not synchronised: on CPUs {kind} cannot')
    cfg.model_wrapper_cfg = wrapper
    return remarks
