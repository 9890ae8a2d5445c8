"""Operations and firing rates of networks with T > 1."""

import pytest
import torch
from torch import nn

from qsdt_mm import IELIF, SpikeDrivenTransformer
from qsdt_mm.analysis import measure_energy
from qsdt_mm.analysis.firing import NeuronActivity
from qsdt_mm.models import SpikeUnit
from qsdt_mm.models.quantization import QuantConv2d
from qsdt_mm.visualization.energy import plot_energy

ARCH = dict(family='qsd', widths=(4, 4, 8, 8, 16), depths=(0, 1, 0, 1, 0), num_heads=2, layer_scale=0.5)


def test_all_time_steps_count():
    """By hand: the spikes of four steps with carried membranes, each reaching every output of a 1 x 1 convolution."""
    encode = SpikeUnit(None, QuantConv2d(2, 3, 1))
    neuron = IELIF(max_spike_count=2, time_steps=4)
    model = nn.Sequential(encode, SpikeUnit(neuron, QuantConv2d(3, 5, 1))).eval()
    folded = torch.randn(4 * 6, 2, 7, 7)
    report = measure_energy(model, [folded], run=lambda batch: len(model(batch)) // 4)
    counts, carried = [], None
    with torch.no_grad():
        for current in encode(folded).unflatten(0, (4, 6)):
            count, carried = neuron.step(current, carried)
            counts.append(count)
    spikes = [int(count.sum()) for count in counts]
    row = report.layers[1]
    assert report.images == 6 and row.sops == sum(spikes) * 5 / 6 and row.macs == 4 * 7 * 7 * 3 * 5
    assert report.layers[0].macs == 4 * 7 * 7 * 2 * 3  # each frame is encoded
    activity = report.neurons['1.neuron']
    assert activity.step_spikes == spikes and activity.spikes == sum(spikes)
    assert activity.step_rates == pytest.approx([n / (6 * 3 * 49 * 2) for n in spikes])
    assert report.step_rates == activity.step_rates and sum(report.step_rates) / 4 == pytest.approx(report.rate)


def test_a_still_image_costs_what_its_clip_costs_but_for_the_encoding():
    model = SpikeDrivenTransformer(ARCH, 2, time_steps=3, weight_bits=4).double().eval()
    image = torch.randn(2, 2, 32, 32, dtype=torch.float64)
    still, clip = (measure_energy(model, [x]) for x in (image, image[:, None].expand(-1, 3, -1, -1, -1)))
    assert [row.sops for row in still.layers] == [row.sops for row in clip.layers]
    assert clip.layers[0].macs == 3 * still.layers[0].macs


def test_figures_and_plot(tmp_path):
    for steps in (1, 3):
        model = SpikeDrivenTransformer(ARCH, 2, time_steps=steps, weight_bits=4).eval()
        report = measure_energy(model, [torch.randn(2, 2, 32, 32)])
        figures = report.as_dict()
        assert len(figures['total']['firing_rate_by_step']) == steps
        assert sum(figures['total']['firing_rate_by_step']) / steps == pytest.approx(figures['total']['firing_rate'])
        assert all(len(n['firing_rate_by_step']) == n['time_steps'] == steps for n in figures['neurons'].values())
        plot_energy(report, tmp_path / f'{steps}.png')
        assert (tmp_path / f'{steps}.png').stat().st_size > 10_000


def test_activity_by_step():
    activity = NeuronActivity(2, time_steps=2)
    activity.add(torch.tensor([[0.0, 1.0], [2.0, 2.0]]))
    activity.add(torch.tensor([[1.0], [0.0], [1.0], [2.0]]))
    assert activity.step_spikes == [2, 7] and activity.step_rates == [2 / 8, 7 / 8]
    plain = NeuronActivity(2)
    plain.add(torch.tensor([1.0, 2.0]))
    assert plain.step_spikes == [3] and plain.step_rates == [plain.rate]
