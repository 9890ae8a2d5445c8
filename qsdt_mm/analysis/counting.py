"""Hooks that count what each layer, neuron and shortcut of a network does while images pass."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qsdt_mm.inference.slots import CODINGS, number_of_spikes
from qsdt_mm.models.layers import (
    MembraneShortcut,
    SpikeDrivenSelfAttention,
    layers_of,
    layers_outside_units,
    named_units,
)
from qsdt_mm.models.layers.attention import PerSlotAttention, keys_first
from qsdt_mm.models.layers.float_layers import uncounted
from qsdt_mm.models.neurons import SpikingNeuron

from .audit import bits_of, describe_layer, is_chain, merged
from .firing import NeuronActivity, spike_counts
from .operations import attention_products, attention_streams, dense_macs, effective_operations, synaptic_operations
from .traffic import FLOAT_BITS, Work

COUNTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


@dataclass
class Row:
    """Row of a report: a layer, or an attention's products.

    Args:
        kind: what it is.
        driven_by: 'spikes', 'image', 'membrane', or 'floats' outside units.
        neuron: name of the neuron before it; None without.
        works: its work, by product.

    >>> Row('linear', 'image', None, []).neuron is None
    True
    """

    kind: str
    driven_by: str
    neuron: str | None
    works: list[Work]


class NetworkCounter:
    """Counts of a network, all images together.

    Args:
        model: in evaluation mode, not converted.
        merge: count each chain as the single convolution that it merges into.

    >>> counter = NetworkCounter(nn.Sequential(nn.ReLU()), merge=False)
    >>> with ExitStack() as stack:
    ...     counter.attach(stack)
    >>> counter.rows
    {}
    """

    def __init__(self, model: nn.Module, merge: bool) -> None:
        self.model, self.merge = model, merge
        self.rows: dict[str, Row] = {}
        self.neurons: dict[str, NeuronActivity] = {}
        self.addresses: dict[str, int] = {}  # by neuron
        self.shortcuts = 0
        self.weights: Counter[str] = Counter()  # 'all' and 'zero'

    def attach(self, stack: ExitStack) -> None:
        """Watch the network as long as the stack is open."""
        names = {module: name for name, module in self.model.named_modules()}
        for name, module in self.model.named_modules():
            if isinstance(module, SpikingNeuron):
                self.neurons[name] = NeuronActivity(module.max_spike_count, time_steps=module.time_steps)
                self.addresses[name] = 0
                stack.callback(module.register_forward_hook(self.watch_neuron(name)).remove)
            elif isinstance(module, MembraneShortcut):
                stack.callback(module.register_forward_hook(self.watch_shortcut).remove)
            elif isinstance(module, SpikeDrivenSelfAttention):
                works = [Work('spikes', 'activations'), Work('spikes', 'membranes')]
                self.rows[f'{name}.product'] = Row('attention', 'spikes', names.get(module.key_neuron), works)
                for work in works:
                    work.per_slot = isinstance(module.product, PerSlotAttention)
                watch = self.watch_attention(works, module.neurons)
                stack.callback(module.product.register_forward_hook(watch).remove)
        for name, unit in named_units(self.model):
            layers = layers_of(unit)
            if self.merge and is_chain(layers):
                layer = merged(unit)
                row = self.row(f'{name}.synapse', layer, unit.neuron, 'spikes', names, kind='merged ')
                for _, inner in layers:
                    self.look_at(inner)
                stack.callback(unit.synapse.register_forward_hook(self.watch_layer(row, layer, unit.neuron)).remove)
                continue
            for i, (path, layer) in enumerate(layers):
                driven_by = 'membrane' if i else unit.driven_by
                neuron = unit.neuron if driven_by == 'spikes' else None
                row = self.row(f'{name}.{path}', layer, neuron, driven_by, names)
                stack.callback(layer.register_forward_hook(self.watch_layer(row, layer, neuron)).remove)
        for name, layer in layers_outside_units(self.model):
            row = self.row(name, layer, None, 'floats', names)
            if isinstance(layer, COUNTED):
                stack.callback(layer.register_forward_hook(self.watch_layer(row, layer, None)).remove)

    def row(
        self, name: str, layer: nn.Module, neuron: nn.Module | None, driven_by: str, names: dict, kind: str = ''
    ) -> Row:
        """Make the row of a layer, and look at its weights."""
        meta = next((p.is_meta for p in layer.parameters()), False)
        bits = FLOAT_BITS if meta else bits_of(layer)
        weights = sum(p.numel() for p in layer.parameters() if p.dim() >= 2)
        work = Work(driven_by, operands=weights, operand_bits=bits)
        if neuron is not None:
            work.max_spike_count = neuron.max_spike_count
        self.look_at(layer)
        self.rows[name] = Row(f'{kind}{describe_layer(layer)}', driven_by, names.get(neuron), [work])
        return self.rows[name]

    def look_at(self, layer: nn.Module) -> None:
        """Count a layer's weights, and those that are zero."""
        present = present_weights(layer)
        if present is not None:
            self.weights['all'] += present.numel()
            self.weights['zero'] += present.numel() - int(present.sum())

    def watch_neuron(self, name: str):
        def hook(neuron: nn.Module, args: tuple, output: Tensor) -> None:
            self.neurons[name].add(spike_counts(output, neuron.scale))
            self.addresses[name] = max(self.addresses[name], address_bits(output))

        return hook

    def watch_shortcut(self, shortcut: nn.Module, args: tuple, output: Tensor) -> None:
        self.shortcuts += output.numel()

    def watch_layer(self, row: Row, layer: nn.Module, neuron: nn.Module | None):
        (work,) = row.works
        present = present_weights(layer)

        @uncounted()
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            inputs = args[0]
            work.macs += dense_macs(layer, inputs, output)
            work.inputs += inputs.numel()
            work.outputs += output.numel()
            work.address_bits = max(work.address_bits, address_bits(inputs))
            count = inputs.detach() if neuron is None else spike_counts(inputs, neuron.scale)
            nonzero = (count != 0).double()
            work.nonzero_macs += synaptic_operations(layer, nonzero)
            for coding in CODINGS if neuron is not None else ():
                spikes = number_of_spikes(count, neuron.max_spike_count, coding)
                work.spikes[coding] += spikes.sum(dtype=torch.float64).item()
                sops = synaptic_operations(layer, spikes)
                work.sops[coding] += sops
                work.effective[coding] += sops if present is None else effective_operations(layer, spikes, present)
            if neuron is None:
                effective = effective_operations(layer, nonzero, present)
                for coding in CODINGS:
                    work.effective[coding] += effective

        return hook

    def watch_attention(self, works: list[Work], neurons: tuple[nn.Module, ...]):
        most = max(neuron.max_spike_count for neuron in neurons)
        for work in works:
            work.max_spike_count = most

        @uncounted()
        def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            counts = [spike_counts(x, neuron.scale) for x, neuron in zip(args, neurons)]
            (left, right, last), (left_row, right_row, last_row) = attention_streams(*counts)
            first, second = works
            first.inputs += left.numel() + right.numel()
            batch = counts[1].shape[:2].numel()
            first.outputs += batch * (left_row * right_row if keys_first(*counts[1:]) else left_row**2)
            second.operands = first.outputs
            second.inputs += last.numel()
            second.outputs += output.numel()
            for work, stream, row in ((first, left, left_row), (second, last, last_row)):
                work.macs += stream.numel() * row
                work.nonzero_macs += torch.count_nonzero(stream).item() * row
                work.address_bits = max(work.address_bits, address_bits(stream))
            for coding in CODINGS:
                for work, sops in zip(works, attention_products(*counts, coding, most, first.per_slot)):
                    work.sops[coding] += sops
                    work.effective[coding] += sops
                fired = [number_of_spikes(x, most, coding).sum(dtype=torch.float64).item() for x in (left, right, last)]
                first.spikes[coding] += fired[0] + fired[1]
                second.spikes[coding] += fired[2]

        return hook

    def finish(self, images: int, macs: Counter[str]) -> None:
        """Divide by the number of images; of layers outside units take the multiply-accumulates that torch has seen."""
        for name, row in self.rows.items():
            if row.driven_by == 'floats':
                work, seen = row.works[0], float(macs[name])
                if work.macs != seen:  # it is of a kind whose inputs are not looked at, or ran another way
                    work.nonzero_macs, work.effective = seen, dict.fromkeys(CODINGS, seen)
                work.macs = seen
            for work in row.works:
                work.per_image(images)


@torch.no_grad()
def present_weights(layer: nn.Module) -> Tensor | None:
    """Return where a layer's weights, as it computes with them, are not zero; None of layers without values."""
    weight = getattr(layer, 'weight', None)
    if not isinstance(weight, Tensor) or weight.is_meta:
        return None
    if getattr(layer, 'quantizer', None) is not None:
        weight = layer.int_weight().integers
    return weight != 0


def address_bits(values: Tensor) -> int:
    """Return the bits that tell the elements of one sample apart."""
    return max(1, (values[0].numel() - 1).bit_length())
