"""Names from before 0.2.0 are refused in one line that says the new one: in configs, options, Python, by every tool."""

import importlib
import importlib.util
import inspect
import re

import pytest
import toy_runs as toy
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from qsdt_mm import IELIF, SpikeDrivenTransformer
from qsdt_mm.analysis.energy import EnergyReport
from qsdt_mm.analysis.firing import NeuronActivity
from qsdt_mm.compat import renamed
from qsdt_mm.errors import InputError, is_own_fault
from qsdt_mm.models.layers import SpikeUnit, UnitFactory
from qsdt_mm.models.quantization import QuantLinear

DIGITS = toy.ROOT / 'configs/classification/qsd-tiny_1xb32_digits.py'
CELLS = toy.ROOT / 'configs/detection/mask-rcnn_qsd-small_fpn_1xb4-18e_cells.py'
D_IS_NOW = 'levels is called max_spike_count now'

# As they were written before, by module; the last are of modules that moved themselves.
OLD_IMPORTS = [
    (module, name)
    for module, names in {
        'models.quantization': 'LowBitWeight integer_range',
        'models.quantization.lsq': 'LowBitWeight integer_range',
        'models.layers.spiking': 'SpikingPart',
        'models.heads.detection': 'SharedSpike2FCBBoxHead',
        'models.selfsup.masking': 'Visibility VisibleBatchNorm2d see_visible_only',
        'models.neurons.modules': 'note_spikes',
        'inference': 'agreement answers same_bits unit_errors',
        'inference.exact': 'carrier_for',
        'inference.conversion': 'integer_weight',
        'datasets.events': 'CIFAR10DVS DVS128Gesture EventDataset EventFiles FolderEvents HARDVS',
        'inference.answers': 'agreement answers same_bits',
        'models.neurons.saving': 'Ledger ShortForm halve note_derived note_product unhalve',
        'models.layers.layout': 'settle',
        'datasets.event_pictures': 'strip',
        'datasets.moving_digits': 'film',
        'datasets.checks': 'build_samples check_annotation_files check_coco_file check_list_file check_loader '
        'check_same_classes try_sample',
        'export.recognition': 'recognise settle_arch',
    }.items()
    for name in names.split()
]
MOVED = {module for module, _ in OLD_IMPORTS if any(f'{module}.'.startswith(f'{old}.') for old in renamed.MODULES)}


class TestPython:
    @pytest.mark.parametrize(
        'build, line',
        [
            (lambda: SpikeDrivenTransformer(levels=4), f'SpikeDrivenTransformer: {D_IS_NOW}'),
            (lambda: SpikeDrivenTransformer(neuron=dict(type='IELIF', levels=1)), f'IELIF: {D_IS_NOW}'),
            (lambda: IELIF(levels=2, time_steps=3), f'IELIF: {D_IS_NOW}'),
            (lambda: UnitFactory(neuron=None, levels=4, time_steps=1, weight_bits=4), f'UnitFactory: {D_IS_NOW}'),
            (lambda: SpikeUnit(None, None, real_input='image'), 'SpikeUnit: real_input is called input_kind now'),
        ],
    )
    def test_constructors(self, build, line):
        with pytest.raises(ValueError) as error:
            build()
        assert line in str(error.value) and 'docs/en/migration.md' in str(error.value)

    @pytest.mark.parametrize('name', ['SpikeFPN', 'SpikeRPNHead', 'SpikeUPerHead', 'SpikeTwoHeadClsHead'])
    def test_necks_and_heads(self, name):
        """Whatever library they extend, and whatever else they need."""
        scope = dict(SpikeFPN='mmdet', SpikeRPNHead='mmdet', SpikeUPerHead='mmseg').get(name, 'mmpretrain')
        pytest.importorskip(scope)
        with DefaultScope.overwrite_default_scope(scope), pytest.raises(ValueError, match=D_IS_NOW):
            MODELS.build(dict(type=name, num_classes=2, in_channels=8, levels=4))

    def test_an_old_type(self):
        with pytest.raises(ValueError, match='SharedSpike2FCBBoxHead is called SpikeShared2FCBBoxHead now'):
            MODELS.build(dict(type='SharedSpike2FCBBoxHead', num_classes=3))

    def test_an_argument_of_another_name_stays_an_error_of_its_own(self):
        with pytest.raises(TypeError, match='unexpected keyword argument'):
            IELIF(level=2)

    def test_a_missing_argument_is_the_configs_fault(self):
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'synapse'") as error:
            SpikeUnit(neuron=None)
        assert not is_own_fault(error.value)

    def test_signatures_are_the_constructors_own(self):
        names = inspect.signature(IELIF).parameters
        assert 'max_spike_count' in names and 'levels' not in names and 'kwargs' not in names

    @pytest.mark.parametrize('old', sorted(renamed.MODULES))
    def test_modules(self, old):
        new = f'qsdt_mm.{renamed.MODULES[old]}'
        assert importlib.util.find_spec(new) is not None
        with pytest.raises(ImportError) as error:
            importlib.import_module(f'qsdt_mm.{old}')
        assert f'qsdt_mm.{old} is called {new} now' in str(error.value)

    def test_modules_of_a_room_that_moved(self):
        with pytest.raises(ImportError, match=r'qsdt_mm\.export is called qsdt_mm\.published now'):
            importlib.import_module('qsdt_mm.export.loading')
        with pytest.raises(ImportError, match=r'qsdt_mm\.export is called qsdt_mm\.published now'):
            exec('from qsdt_mm import export')

    def test_modules_that_never_were(self):
        with pytest.raises(ModuleNotFoundError, match='qsdt_mm.nowhere'):
            importlib.import_module('qsdt_mm.nowhere')

    @pytest.mark.parametrize('module, name', OLD_IMPORTS)
    def test_imports_lead_to_what_there_is(self, module, name):
        """Whoever writes what each line says, comes to the thing itself."""
        needed = dict(detection='mmdet', event_pictures='mmpretrain', datasets='mmpretrain', checks='mmpretrain')
        pytest.importorskip(needed.get(module.rpartition('.')[2], 'torch'))
        module, lines = f'qsdt_mm.{module}', []
        for _ in range(3):
            try:
                exec(f'from {module} import {name}')
                break
            except ImportError as error:
                said = re.fullmatch(r'(\S+) is called (\S+) now \(docs/en/migration.md\)', str(error))
                assert said and f'{module}.{name}'.startswith(said[1])
                module, _, name = f'{module}.{name}'.replace(said[1], said[2], 1).rpartition('.')
                lines.append(said[0])
        assert len(lines) in (1, 2)

    def test_imports_are_all_tried(self):
        assert {name for _, name in OLD_IMPORTS} == renamed.NAMES.keys()

    @pytest.mark.parametrize(
        'thing, old, new',
        [
            (IELIF(), 'levels', 'max_spike_count'),
            (QuantLinear(2, 2, weight_bits=4), 'weight_in_use', 'compute_weight'),
            (NeuronActivity(1), 'shares', 'count_distribution'),
            (EnergyReport('fp32', '', 1, [], dict(neuron=NeuronActivity(1))), 'shares', 'count_distribution'),
        ],
        ids=lambda value: value if isinstance(value, str) else type(value).__name__,
    )
    def test_attributes(self, thing, old, new):
        with pytest.raises(AttributeError) as error:
            getattr(thing, old)
        assert str(error.value) == f'{type(thing).__name__}: {old} is called {new} now (docs/en/migration.md)'
        assert not hasattr(thing, old) and hasattr(thing, new)
        with pytest.raises(AttributeError, match=f"{type(thing).__name__}' object has no attribute 'nowhere'"):
            getattr(thing, 'nowhere')  # noqa: B009

    @pytest.mark.parametrize('module', sorted({module for module, _ in OLD_IMPORTS if module not in MOVED}))
    def test_modules_keep_their_other_errors(self, module):
        pytest.importorskip('mmdet' if module.endswith('detection') else 'torch')
        assert not hasattr(importlib.import_module(f'qsdt_mm.{module}'), 'nowhere')


class TestConfigs:
    """Before anything is built, with the path to the key."""

    def load(self, path, *options):
        from qsdt_mm.cli import load_config

        return load_config(str(path), options)

    def written(self, tmp_path, text, base=DIGITS):
        path = tmp_path / 'config.py'
        path.write_text(f'_base_ = {str(base)!r}\n{text}\n')
        return path

    @pytest.mark.parametrize(
        'place',
        ['model.backbone', 'model.head', 'model.backbone.neuron', 'model.head.neuron'],
    )
    def test_options(self, place):
        pytest.importorskip('mmpretrain')
        typed = ['model.head.neuron.type=IELIF'] if place == 'model.head.neuron' else []
        with pytest.raises(InputError, match=f'^--cfg-options {place}.levels: {D_IS_NOW}'):
            self.load(DIGITS, *typed, f'{place}.levels=1')

    @pytest.mark.parametrize(
        'text, path',
        [
            ('model = dict(backbone=dict(levels=2))', 'model.backbone'),
            ('model = dict(head=dict(levels=2))', 'model.head'),
            ("model = dict(backbone=dict(neuron=dict(type='IELIF', levels=2)))", 'model.backbone.neuron'),
            ('model = dict(backbone=dict(neuron=dict(levels=2)))', 'model.backbone.neuron'),
        ],
    )
    def test_files(self, tmp_path, text, path):
        pytest.importorskip('mmpretrain')
        with pytest.raises(InputError, match=f'config.py: {path}: {D_IS_NOW}'):
            self.load(self.written(tmp_path, text))

    def test_parts_of_detectors(self, tmp_path):
        pytest.importorskip('mmdet')
        with pytest.raises(InputError, match=f'model.rpn_head: {D_IS_NOW}'):
            self.load(self.written(tmp_path, 'model = dict(rpn_head=dict(levels=1))', CELLS))
        with pytest.raises(InputError, match=f'^--cfg-options model.neck.levels: {D_IS_NOW}'):
            self.load(CELLS, 'model.neck.levels=1')
        old = 'SharedSpike2FCBBoxHead'
        with pytest.raises(InputError, match=f'bbox_head.type: {old} is called SpikeShared2FCBBoxHead now'):
            self.load(CELLS, f'model.roi_head.bbox_head.type={old}')
        with pytest.raises(InputError, match=f'bbox_head.type: qsdt_mm.{old} is called'):
            self.load(CELLS, f'model.roi_head.bbox_head.type=qsdt_mm.{old}')

    def test_keys_of_other_classes_are_their_own(self, tmp_path):
        """A class that takes ``levels``, or is not known, or a dict that describes no class."""
        found = renamed.old_names(dict(a=[dict(type='Own', levels=1)], b=dict(levels=2), c=(dict(x=dict(levels=3)),)))
        assert [path for path, _, _ in found] == [('a', '0', 'levels'), ('b', 'levels'), ('c', '0', 'x', 'levels')]
        cfg = self.load(self.written(tmp_path, "mine = dict(levels=2)\nother = dict(type='NowhereKnown', levels=3)"))
        assert cfg.mine.levels == 2 and cfg.other.levels == 3

    def test_no_config_here_has_an_old_name(self):
        for path in sorted((toy.ROOT / 'configs').glob('[!_]*/*.py')):
            assert not renamed.old_names(Config.fromfile(path)._cfg_dict), path


@pytest.mark.parametrize(
    'name, words',
    [('train', []), ('test', ['no.pth']), ('misc/print_config', []), ('analysis_tools/energy', [])],
)
def test_tools_exit_with_2(name, words, tmp_path, monkeypatch, capsys):
    pytest.importorskip('mmpretrain')
    monkeypatch.chdir(tmp_path)
    words = [str(DIGITS), *words, '--cfg-options', 'model.backbone.levels=1']
    assert toy.tool(name).main(words) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(f'--cfg-options model.backbone.levels: {D_IS_NOW} (docs/en/migration.md)')
    assert not list(tmp_path.iterdir())
