"""Small networks and their published checkpoints."""

import argparse

import pytest
import torch
from published_tensors import ARCHS, make_net, publish


@pytest.fixture(scope='module')
def nets():
    return {family: make_net(family) for family in ARCHS}


@pytest.fixture
def tensors(nets):
    """Published tensors of the QSD network, to be changed at will."""
    return publish(nets['qsd'], 'qsd')


@pytest.fixture
def source(tmp_path, tensors):
    path = tmp_path / 'published.pth'
    torch.save(dict(model=tensors, optimizer={}, epoch=3, scaler={}, args=argparse.Namespace(model='x', lr=0.1)), path)
    return path
