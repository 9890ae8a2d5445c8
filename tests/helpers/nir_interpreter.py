"""A reference interpreter of NIR graphs, by the definitions of their nodes alone: edges to one node add up."""

from graphlib import TopologicalSorter

import numpy as np
import torch
import torch.nn.functional as F


def tensor(value):
    return torch.as_tensor(np.asarray(value), dtype=torch.float64)


def ints(value):
    return tuple(int(v) for v in np.atleast_1d(value))


def conv(node, x):
    args = dict(stride=ints(node.stride), padding=ints(node.padding), dilation=ints(node.dilation))
    return F.conv2d(x, tensor(node.weight), tensor(node.bias), **args, groups=int(node.groups))


def pool(node, x):
    assert ints(node.padding) == (0, 0)
    return F.avg_pool2d(x, ints(node.kernel_size), ints(node.stride), divisor_override=1)


RULES = dict(
    Output=lambda node, x: x,
    Conv2d=conv,
    SumPool2d=pool,
    Affine=lambda node, x: x @ tensor(node.weight).T + tensor(node.bias),
    Scale=lambda node, x: x * tensor(node.scale),
    Threshold=lambda node, x: (x > tensor(node.threshold)).double(),
    Flatten=lambda node, x: x.flatten(1 + int(node.start_dim), int(node.end_dim)),
)


def run(graph, pixels):
    """Outputs by name, float32, of images (N, C, H, W); computed in float64."""
    sources = {name: [] for name in graph.nodes}
    for source, target in graph.edges:
        sources[target].append(source)
    values = {}
    for name in TopologicalSorter(sources).static_order():
        node = graph.nodes[name]
        kind = type(node).__name__
        if kind == 'Input':
            values[name] = pixels.double()
            continue
        values[name] = RULES[kind](node, sum(values[source] for source in sources[name]))
        if kind in ('Scale', 'Threshold'):
            assert values[name].shape[1:] == tuple(node.input_type['input'])
    return {name: values[name].float() for name in graph.outputs}
