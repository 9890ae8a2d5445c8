"""Small networks, and their tensors as the published implementations name and shape them."""

import re

import torch
from torch import nn

from qsdt_mm import SpikeDrivenTransformer
from qsdt_mm.models.backbones.presets import FAMILIES, Arch
from qsdt_mm.models.layers import SpikeUnit, make_neuron
from qsdt_mm.models.quantization import QuantLinear

CLASSES = 5
ARCHS = {
    'qsd': Arch('qsd', (8, 8, 16, 16, 24), (1, 1, 2, 2, 1)),
    'espike': Arch('espike', (8, 8, 16, 16, 24), (1, 1, 2, 2, 1), stem_kernel=5),
    'espike-large': Arch('espike-large', (8, 8, 16, 24), (1, 1, 2, 2), pointwise_branch=True),
}
UNITS = dict(query='q_conv', key='k_conv', value='v_conv', projection='proj_conv')


class Net(nn.Module):
    """Backbone and classifier, without mmpretrain."""

    def __init__(self, family, weight_bits):
        super().__init__()
        self.backbone = SpikeDrivenTransformer(ARCHS[family], in_channels=2, weight_bits=weight_bits)
        heads = ['fc', 'fc_dist'] if family == 'espike-large' else ['fc']
        self.head = nn.ModuleDict()
        for name in heads:  # of two, the first sees real values
            neuron = make_neuron(FAMILIES[family].head_neuron, 4, 1) if name == heads[-1] else None
            self.head[name] = SpikeUnit(neuron, QuantLinear(24, CLASSES, weight_bits=weight_bits))

    def forward(self, images):
        feature = self.backbone(images)[-1].mean((2, 3))
        return sum(head(feature) for head in self.head.values()) / len(self.head)


def make_net(family, weight_bits=None, seed=0):
    """A network none of whose tensors is at its first value."""
    torch.manual_seed(seed)
    net = Net(family, FAMILIES[family].weight_bits if weight_bits is None else weight_bits)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith('num_batches_tracked'):
                tensor.fill_(7)
            elif name.endswith('running_var') or '.gain.' in name:
                tensor.uniform_(0.5, 1.5)
            elif name.endswith(('running_mean', 'bias')):
                tensor.uniform_(-0.5, 0.5)
            elif name.endswith('quantizer.step'):
                tensor.mul_(torch.rand_like(tensor) + 0.5)
    return net.eval()


def published_name(name, family):
    """The published name of one of our tensors, written down apart from the code under test."""
    name = name.replace('.quantizer.step', '.alpha')
    if name.startswith('head.fc.synapse.'):
        return name.replace('head.fc.synapse.', 'head.')
    if name.startswith('head.fc_dist.synapse.'):
        return name.replace('head.fc_dist.synapse.', 'head_kd.')
    stage, rest = re.fullmatch(r'backbone\.stages\.(\d)\.(.*)', name).groups()
    down = ['downsample1_1', 'downsample1_2', 'downsample2', 'downsample3', 'downsample4'][int(stage)]
    if rest.startswith('downsample.'):
        return rest.replace('downsample.synapse', f'{down}.encode_conv').replace('downsample.norm', f'{down}.encode_bn')
    block, shortcut, rest = re.fullmatch(r'blocks\.(\d)\.(\d)\.(.*)', rest).groups()
    if stage in '34':
        prefix, branch = f'block{stage}.{block}', int(shortcut)
        if rest == 'gain.weight':
            return f'{prefix}.layer_scale{branch + (0 if family == "espike-large" else 1)}'
        if family != 'qsd':
            branch -= 1
        if family == 'espike-large' and branch == -1:
            index, rest = re.fullmatch(r'branch\.synapse\.(\d)\.(.*)', rest).groups()
            return f'{prefix}.rep_conv.conv{int(index) // 2 + 1}.{int(index) % 2}.{rest}'
        if branch == 1:
            for i in (0, 1):
                rest = rest.replace(f'branch.{i}.synapse', f'mlp.fc{i + 1}_conv')
                rest = rest.replace(f'branch.{i}.norm', f'mlp.fc{i + 1}_bn')
            return f'{prefix}.{rest}'
        if branch == 0:
            unit, rest = re.fullmatch(r'branch\.(\w+)\.(.*)', rest).groups()
            prefix = f'{prefix}.attn.{UNITS[unit]}'
            if rest.startswith('norm.'):
                return f'{prefix}.{rest.replace("norm", "1")}'
            if family == 'espike':
                return f'{prefix}.{rest.replace("synapse", "0")}'
            index, rest = re.fullmatch(r'synapse\.(\d)\.(.*)', rest).groups()
            if family == 'espike-large':
                return f'{prefix}.0.conv{int(index) // 2 + 1}.{int(index) % 2}.{rest}'
            if index == '1':
                return f'{prefix}.0.body.1.{rest.replace("norm", "bn")}'
            return f'{prefix}.0.body.{ {"0": "0", "2": "2.0", "3": "2.1", "4": "2.2"}[index] }.{rest}'
        conv = f'{prefix}.conv'
    else:
        # Stage 2 is two groups of one block.
        prefix = [f'ConvBlock1_1.{block}', f'ConvBlock1_2.{block}', f'ConvBlock2_{int(block) + 1}.0'][int(stage)]
        if family == 'espike-large':
            index, rest = re.fullmatch(r'branch\.(\d)\.(.*)', rest).groups()
            return f'{prefix}.conv{int(index) + 1}.0.{rest.replace("synapse", "0").replace("norm", "1")}'
        if shortcut == '1':
            index, rest = re.fullmatch(r'branch\.(\d)\.(.*)', rest).groups()
            index = int(index) + 1
            return f'{prefix}.{rest.replace("synapse", f"conv{index}").replace("norm", f"bn{index}")}'
        conv = f'{prefix}.Conv'
    index, rest = re.fullmatch(r'branch\.(\d)\.(.*)', rest).groups()
    if family == 'espike':
        part = ['pwconv1', 'dwconv', 'pwconv2'][int(index)]
        return f'{conv}.{part}.{rest.replace("synapse", "0").replace("norm", "1")}'
    rest = rest.replace('norm', 'bn1' if index == '0' else 'bn2')
    return f'{conv}.' + (
        rest.replace('synapse', 'pwconv1')
        if index == '0'
        else rest.replace('synapse.0', 'dwconv').replace('synapse.1', 'pwconv2')
    )


def publish(net, family):
    """Tensors of a network as the published implementations name and shape them, dead ones included."""
    tensors = {}
    for name, tensor in net.state_dict().items():
        theirs = published_name(name, family)
        if theirs.endswith(('fc1_conv.weight', 'fc2_conv.weight')) or (
            family == 'espike-large' and tensor.dim() == 4 and theirs.startswith('block')
        ):
            tensor = tensor.squeeze(-1)
        tensors[theirs] = tensor.clone()
        if theirs.endswith('.alpha'):
            layer = theirs.removesuffix('.alpha')
            tensors[f'{layer}.init_state'] = torch.ones(1)
            for dead in ('alpha', 'zero_point', 'init_state', 'signed'):
                tensors[f'{layer}.act.{dead}'] = torch.full((3,), -1.0)
    return tensors


def assert_same(state, net):
    wanted = net.state_dict()
    assert list(state) == list(wanted)
    for name, tensor in wanted.items():
        assert state[name].shape == tensor.shape and torch.equal(state[name], tensor), name
