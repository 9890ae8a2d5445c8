"""The model zoo: measures what each config's network costs, and draws its tables.

    python docs/model_zoo.py [classification ...]

goes through the folders of configs/ (all, or those named), adds configs that the folder's metafile.yml does not list,
brings parameters, operations and figures of the recipe up to date, and redraws the tables, in the README.md of each
folder too. Results are written into a
metafile by hand; one that is not of this project has its source in the metric's name: ``Top 1 Accuracy (paper)``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from mmengine.registry import MODELS, DefaultScope
from torch import nn

import qsdt_mm
from qsdt_mm import cli
from qsdt_mm.analysis.operations import attention_macs, dense_macs
from qsdt_mm.models.layers.attention import LinearAttention
from qsdt_mm.models.neurons import SpikingNeuron
from qsdt_mm.models.quantization import QuantWeightMixin

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'docs/en/model_zoo.md'
FOLDERS = ('classification', 'distillation', 'selfsup', 'detection', 'segmentation', 'neuromorphic')
SHIPPED = 'weights'
DATA = {
    # last word of the config's name, without the size that may end it: data set, side for which operations are counted
    'in1k': ('ImageNet-1k', 224),
    'cifar10': ('CIFAR-10', 32),
    'cifar10-folder': ('CIFAR-10', 32),
    'cifar10-memory': ('CIFAR-10', 32),
    'cifar10-folder-memory': ('CIFAR-10', 32),
    'digits': ('Handwritten digits', 32),
    'shapes': ('Drawn shapes', 32),
    'coco': ('COCO', None),
    'cells': ('Nuclei', None),
    'ade20k': ('ADE20K', 512),
    'voc12': ('Pascal VOC 2012', 512),
    'hardvs': ('HAR-DVS', 224),
    'dvs128-gesture': ('DVS128 Gesture', 128),
    'cifar10-dvs': ('CIFAR10-DVS', 128),
    'own-events': ('Own recordings', 64),
    'moving-digits-digit': ('Moving digits, digit', 32),
    'moving-digits-direction': ('Moving digits, direction', 32),
}


def data_of(path: Path) -> tuple[str, int | None]:
    """A config's data set, and the side of its images as far as its name tells."""
    word = path.stem.rpartition('_')[2]
    size = re.search(r'-(\d+)(x\d+|px)$', word)
    name, side = DATA.get(word[: size.start()] if size else word, (word, None))
    return name, int(size[1]) if size else side


def configs(room: str) -> list[Path]:
    """The configs of a folder that can be trained."""
    return sorted((ROOT / 'configs' / room).glob('*.py'))


def build(cfg: Any) -> nn.Module:
    """A config's network on the meta device; of a student without its teacher."""
    model = cfg.model.copy()
    if model.type == 'DistilledClassifier':
        model = {k: v for k, v in model.items() if k not in ('teacher', 'distillation', 'label_weight', 'train_cfg')}
        model['type'] = 'SpikeImageClassifier'
    with DefaultScope.overwrite_default_scope(cfg.default_scope), torch.device('meta'):
        return MODELS.build(model).eval()


@torch.no_grad()
def macs(model: nn.Module, image: torch.Tensor) -> int:
    """Multiply-accumulates of one image, all time steps together, without regard to zeros; none is computed."""
    total = 0

    def layer(module: nn.Module, args: tuple, output: torch.Tensor) -> None:
        nonlocal total
        total += dense_macs(module, args[0], output)

    def product(module: nn.Module, args: tuple) -> None:
        nonlocal total
        total += attention_macs(*args)

    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            module.register_forward_hook(layer)
        elif isinstance(module, LinearAttention):
            module.register_forward_pre_hook(product)
    features = model.backbone(image)
    if getattr(model, 'with_neck', False):
        features = model.neck(features)
    head = getattr(model, 'decode_head', None) or model.head
    head(features)
    return total


def facts(path: Path) -> dict[str, Any]:
    """What a metafile says about a config, apart from results."""
    cfg = cli.load_config(str(path))
    cli.import_library(cfg)
    model = build(cfg)
    name, size = data_of(path)
    out: dict[str, Any] = {'Training Data': name}
    if cfg.train_cfg.get('max_epochs'):
        out['Epochs'] = cfg.train_cfg.max_epochs
    else:
        out['Iterations'] = cfg.train_cfg.max_iters
    gpus, batch = map(int, re.search(r'_(\d+)xb(\d+)', path.stem).groups())
    out['Batch Size'] = gpus * batch
    out['Parameters'] = sum(p.numel() for p in model.parameters())
    neurons = [module for module in model.backbone.modules() if isinstance(module, SpikingNeuron)]
    # Of a network that sees frames one by one, neurons have T = 1 and the backbone the number of frames.
    steps = max([cfg.model.backbone.get('time_steps', 1), *(neuron.time_steps for neuron in neurons)])
    if size and path.parent.name not in ('selfsup', 'detection'):
        shape = [cfg.model.backbone.get('in_channels', 3), size, size]
        if shape[0] == 2:  # frames of events, darker and brighter
            shape.insert(0, steps)
        out['FLOPs'] = macs(model, torch.zeros(1, *shape, device='meta'))
        out['Input'] = ' x '.join(map(str, shape))
    if neurons:
        out['T x D'] = f'{steps} x {neurons[0].max_spike_count}'
    bits = {module.weight_bits for module in model.backbone.modules() if isinstance(module, QuantWeightMixin)}
    out['Bits'] = min(bits, default=32)
    return out


def metafile(room: str) -> Path:
    """Of a folder of configs."""
    return ROOT / 'configs' / room / 'metafile.yml'


def load(room: str) -> dict[str, Any]:
    """A folder's metafile."""
    return yaml.safe_load(metafile(room).read_text(encoding='utf-8'))


def collection_of(path: Path) -> str:
    """The collection a new entry goes to: the networks of one paper, or one kind of detector or segmenter."""
    for start, name in (
        ('spike-mae', 'Spike-MAE'),
        ('cascade-mask-rcnn', 'Spiking Cascade Mask R-CNN'),
        ('mask-rcnn_r18', 'Mask R-CNN'),
        ('mask-rcnn', 'Spiking Mask R-CNN'),
        ('faster-rcnn', 'Spiking Faster R-CNN'),
        ('retinanet', 'Spiking RetinaNet'),
        ('rtmdet', 'Spiking RTMDet'),
        ('semantic-fpn_r18', 'Semantic FPN'),
        ('semantic-fpn', 'Spiking Semantic FPN'),
        ('upernet', 'Spiking UPerNet'),
        ('e-', 'E-SpikeFormer'),
    ):
        if path.stem.startswith(start):
            return name
    return 'QSD-Transformer'


def updated(room: str) -> dict[str, Any]:
    """A folder's metafile as it should be: entries of all its configs, with their figures; the rest as it is."""
    content = load(room)
    known = {entry['Name']: entry for entry in content['Models'] or []}
    content['Models'] = []
    for path in configs(room):
        old = known.get(path.stem, {})
        entry = {
            'Name': path.stem,
            'In Collection': old.get('In Collection', collection_of(path)),
            'Config': path.relative_to(ROOT).as_posix(),
            'Metadata': facts(path),
        }
        if (ROOT / 'weights' / path.stem / 'config.json').is_file():
            entry['Packed Weights'] = f'weights/{path.stem}'
        content['Models'].append({**entry, **{key: old[key] for key in ('Results', 'Weights') if key in old}})
    return content


def short(number: int) -> str:
    """A count in three digits."""
    for unit, letter in ((1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
        if number >= unit:
            return f'{number / unit:#.3g}'.rstrip('.') + f' {letter}'
    return str(number)


SHORT = {'Top 1 Accuracy': 'top-1', 'Top 1 Accuracy (paper)': 'top-1 (paper)'}


def results(entry: dict[str, Any]) -> str:
    """What a model reached, and where that is from."""
    out = []
    for result in entry.get('Results', []):
        where = '' if result['Dataset'] == entry['Metadata']['Training Data'] else f' on {result["Dataset"]}'
        out += [f'{SHORT.get(metric, metric)} {value}{where}' for metric, value in result['Metrics'].items()]
    return '; '.join(out)


def order(entry: dict[str, Any]) -> tuple:
    """Return where an entry stands in its table: by data set, then by kind of network, then by size."""
    names = [name for name, _ in DATA.values()]
    data = entry['Metadata']['Training Data']
    place = names.index(data) if data in names else len(names)
    return place, entry['In Collection'], entry['Metadata']['Parameters'], entry['Name']


def table(room: str, folder: str = '../../configs/{room}/') -> str:
    """A folder's table, from its metafile; names lead to the configs in ``folder``."""
    lines = [
        '| config | data | weights | T x D | parameters | MACs | epochs | results |',
        '|---|---|---|---|---|---|---|---|',
    ]
    for entry in sorted(load(room)['Models'], key=order):
        data = entry['Metadata']
        cells = (
            f'[`{entry["Name"]}`]({folder.format(room=room)}{entry["Name"]}.py)',
            data['Training Data'],
            f'{data["Bits"]} bits',
            data.get('T x D', 'no spikes'),
            short(data['Parameters']),
            short(data['FLOPs']) if 'FLOPs' in data else '-',
            data['Epochs'] if 'Epochs' in data else f'{data["Iterations"]:,} iterations',
            results(entry) or '-',
        )
        lines.append('| ' + ' | '.join(map(str, cells)) + ' |')
    return '\n'.join(lines)


def shipped() -> str:
    """The table of networks that come with the package, from their cards."""
    lines = ['| network | task | data | megabytes | figures |', '|---|---|---|---|---|']
    for name, known in qsdt_mm.list_pretrained().items():
        figures = '; '.join(f'{metric} {value}' for metric, value in known['metrics'].items()) or '-'
        lines.append(f'| `{name}` | {known["task"]} | {known["data"]} | {known["megabytes"]} | {figures} |')
    return '\n'.join(lines)


def pages() -> list[Path]:
    """Where tables are: the page of all, and the README of each folder of configs."""
    return [PAGE, *(metafile(room).with_name('README.md') for room in FOLDERS)]


def folder_of(page: Path) -> tuple[str, ...]:
    """What a page passes to ``drawn``: the README of a folder stands beside its configs."""
    return () if page == PAGE else ('',)


def drawn(page: str, folder: str = '../../configs/{room}/') -> str:
    """The page with its tables drawn anew, each between its two marks; ``folder`` as for ``table``."""
    for room in (*FOLDERS, SHIPPED):
        start, end = f'<!-- {room}: drawn by docs/model_zoo.py -->', f'<!-- end of {room} -->'
        if start in page:
            head, _, rest = page.partition(start)
            lines = shipped() if room == SHIPPED else table(room, folder)
            page = f'{head}{start}\n\n{lines}\n\n{end}{rest.partition(end)[2]}'
    return page


def main(rooms: Sequence[str]) -> int:
    """Bring metafiles and page up to date."""
    for room in rooms or FOLDERS:
        text = yaml.safe_dump(updated(room), sort_keys=False, allow_unicode=True, width=120)
        metafile(room).write_text(text, encoding='utf-8')
    for page in pages():
        page.write_text(drawn(page.read_text(encoding='utf-8'), *folder_of(page)), encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
