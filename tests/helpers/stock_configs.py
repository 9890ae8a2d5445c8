"""Stock configs of mmdet, mmseg and mmpretrain, shrunk, with nothing but the backbone exchanged, on two images."""

import copy
import importlib.util
import random
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData

SIZE = 64
ARCH = dict(family='qsd', widths=(16, 32, 48, 80, 112), depths=(1, 1, 1, 1, 1), num_heads=4)
FEWER = dict(
    max_per_img=30, nms_pre=60, num_queries=30, num_proposals=30, num_points=64, num_dn_queries=10, max_num=40,
    fc_out_channels=64, feedforward_channels=128, num_subset_points=64, subdivision_num_points=64,
)  # fmt: skip
CHANNELS = ('in_channels', 'c1_in_channels', 'in_channels_list', 'encoder_channels')
OWN_TO_STOCK = ('dcn', 'stage_with_dcn', 'sac', 'stage_with_sac', 'plugins')
"""Arguments of a stock backbone that need compiled ops, and change no shape."""


def config_root(library):
    return Path(importlib.util.find_spec(library).submodule_search_locations[0]) / '.mim' / 'configs'


def clean(node, fewer):
    """Load nothing, and make do with few proposals, queries and points; let any score count."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in [*items]:
        loads = key in ('pretrained', 'teacher_ckpt') and isinstance(value, str)
        if loads or key == 'init_cfg' and isinstance(value, dict) and 'checkpoint' in value:
            node[key] = None
        elif key == 'teacher_config' and isinstance(value, str):
            node[key] = str(config_root('mmdet').parent / value)
        elif key == 'score_thr':
            node[key] = 0.0
        elif type(value) is int and value > fewer.get(key, value):
            node[key] = fewer[key]
        elif isinstance(value, (dict, list, tuple)):
            clean(value, fewer)


def stock_model(library, name):
    """The model of a stock config."""
    cfg = Config.fromfile(config_root(library) / f'{name}.py')
    model = cfg.model
    if library == 'mmpretrain' and 'data_preprocessor' not in model and 'data_preprocessor' in cfg:
        model.data_preprocessor = cfg.data_preprocessor
    # SCNet's branches have to be as wide as each other.
    clean(model, {k: v for k, v in FEWER.items() if model.type != 'SCNet' or k != 'fc_out_channels'})
    preprocessor = model.get('data_preprocessor') or {}
    if library != 'mmpretrain':
        preprocessor.pop('batch_augments', None)
    if library == 'mmseg':
        preprocessor.update(size=(SIZE, SIZE), size_divisor=None)
        preprocessor.pop('test_cfg', None)
        model.test_cfg.mode = 'whole'
    return model


def maps_of(module, inputs=None):
    """The maps that a backbone or neck puts out: without values, where its code can do without."""
    try:
        return maps_on('meta', module, inputs)
    except RuntimeError:
        return maps_on('cpu', module, inputs)


def maps_on(device, module, inputs):
    with torch.device(device), torch.no_grad():
        module = MODELS.build(copy.deepcopy(module))
        module.eval()
        inputs = [torch.zeros(m.shape) for m in inputs] if inputs else torch.zeros(1, 3, SIZE, SIZE)
        out = module(inputs)
    out = [out] if torch.is_tensor(out) else [o[0] if isinstance(o, (list, tuple)) else o for o in out]
    if not all(o.dim() == 4 for o in out):
        raise LookupError('no maps')
    return out


def our_backbone(strides):
    """The backbone as a user writes it: stages, and the strides that the stock one's maps have."""
    indices = {1: (4,), 3: (2, 3, 4), 4: (1, 2, 3, 4), 5: (0, 1, 2, 3, 4)}.get(len(strides))
    if indices is None:
        indices = tuple({2: 0, 4: 1, 8: 2, 16: 3}.get(stride, 4) for stride in strides)
    return ConfigDict(
        type='qsdt_mm.SpikeDrivenTransformer', arch=dict(ARCH), out_indices=indices, output_strides=tuple(strides)
    )


def replace_channels(node, old, new):
    """Write our channels where those of the stock backbone stand; return how many places that were."""
    if isinstance(node, (list, tuple)):
        return sum(replace_channels(value, old, new) for value in node)
    if not isinstance(node, dict):
        return 0
    changed = 0
    for key, value in [*node.items()]:
        if key in CHANNELS and isinstance(value, (list, tuple)) and value and all(v in old for v in value):
            node[key] = type(value)(new if list(value) == list(old) else [new[old.index(v)] for v in value])
            changed += 1
        elif key in CHANNELS and value in old:
            node[key] = new[len(old) - 1 - old[::-1].index(value)]
            changed += 1
        elif isinstance(value, (dict, list, tuple)) and key not in ('train_cfg', 'test_cfg'):
            changed += replace_channels(value, old, new)
    return changed


def swap(library, model):
    """Exchange the backbone, in place, and adapt the channels of what comes after it."""
    stock = copy.deepcopy(model.backbone)
    for key in OWN_TO_STOCK:
        stock.pop(key, None)
    try:
        maps = maps_of(stock)
        old, strides = [m.shape[1] for m in maps], [round(SIZE / m.shape[-1]) for m in maps]
    except Exception:
        if library != 'mmpretrain':
            raise
        parts = [part for part in (model.get('neck'), model.head) if part]  # vectors or tokens: one map, then pooled
        old, strides = [next(p['in_channels'] for p in parts if isinstance(p.get('in_channels'), int))], [32]
        model.neck = model.get('neck') or dict(type='GlobalAveragePooling')
    model.backbone = our_backbone(strides)
    maps = maps_of(model.backbone)
    new = [m.shape[1] for m in maps]
    neck = model.get('neck')
    if library == 'mmseg':
        return adapt_heads(model, maps, old, new)
    if not neck and library == 'mmdet' and len(new) == 1:  # C4, DC5: what comes after the backbone stays as it is
        model.neck = dict(type='ChannelMapper', in_channels=new, out_channels=old[0], kernel_size=1)
    elif neck and not (library == 'mmpretrain' and 'in_channels' not in neck):
        first = neck[0] if isinstance(neck, list) else neck
        replace_channels(first, old, new)
        if first.type == 'SSDNeck':
            first.out_channels = (*new, *first.out_channels[len(new) :])
            model.bbox_head.in_channels = first.out_channels
    else:
        for key in [key for key in model if key.endswith('head')]:
            replace_channels(model[key], old, new)
    return None


def adapt_heads(model, maps, old, new):
    """Give mmseg's heads the channels of the maps that they choose."""
    if model.get('neck'):
        replace_channels(model.neck, old, new)
        maps = maps_of(model.neck, maps)
    widths = [m.shape[1] for m in maps]
    for key in ('decode_head', 'auxiliary_head'):
        heads = model.get(key) or []
        for head in heads if isinstance(heads, (list, tuple)) else [heads]:
            head = head.get('kernel_generate_head', head)
            index = head.get('in_index', -1)
            if isinstance(index, (list, tuple)):
                head.in_channels = [widths[i] for i in index]
            elif isinstance(head.get('in_channels'), (list, tuple)):
                head.in_channels = widths[: len(head.in_channels)]
            elif 'in_channels' in head:
                head.in_channels = widths[index]
            if head.get('num_convs') == 0 and head.type == 'FCNHead':
                head.channels = head.in_channels
            if 'c1_in_channels' in head:
                head.c1_in_channels = widths[0]
            if 'pixel_decoder' in head:
                replace_channels(head.pixel_decoder, old, widths)


def numbers_in(node, keys):
    """All positive integers under these keys."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        if key in keys and type(value) is int and value > 0:
            yield value
        elif isinstance(value, (dict, list, tuple)):
            yield from numbers_in(value, keys)


def detection_data(model):
    from mmdet.testing import demo_mm_inputs

    classes = min(numbers_in(model, ('num_classes', 'num_things_classes')), default=80)
    stride = 8 if model.type in ('HybridTaskCascade', 'SCNet') else 1
    with_mask = model.type != 'RTMDet' or 'Ins' in model.bbox_head.type
    data = demo_mm_inputs(
        2, image_shapes=[(3, SIZE, SIZE)] * 2, num_items=[3, 4], num_classes=max(min(classes, 10), 2),
        sem_seg_output_strides=stride, with_mask=with_mask, with_semantic=True,
    )  # fmt: skip
    for sample in data['data_samples']:
        boxes = sample.gt_instances.bboxes  # at least 16 px wide, so that something is assigned
        boxes[:, 2:] = (boxes[:, :2] + (boxes[:, 2:] - boxes[:, :2]).clamp(min=16)).clamp(max=SIZE)
        boxes[:, :2] = (boxes[:, 2:] - (boxes[:, 2:] - boxes[:, :2]).clamp(min=16)).clamp(min=0)
        sample.gt_instances.labels.clamp_(max=classes - 1)
        shape = (SIZE, SIZE)
        sample.set_metainfo(
            dict(batch_input_shape=shape, pad_shape=shape, scale_factor=(1.0, 1.0), border=[0, SIZE, 0, SIZE])
        )
    return data


def images(size):
    return [torch.randint(0, 255, (3, size, size), dtype=torch.uint8) for _ in range(2)]


def segmentation_data(model):
    from mmseg.structures import SegDataSample

    heads = model.decode_head
    classes = (heads[-1] if isinstance(heads, (list, tuple)) else heads).get('num_classes', 19)
    samples = []
    for _ in range(2):
        shape = (SIZE, SIZE)
        meta = dict(ori_shape=shape, img_shape=shape, pad_shape=shape, flip=False, img_path='x', padding_size=[0] * 4)
        blocks = torch.randint(0, classes, (1, 4, 4))
        sample = SegDataSample(metainfo=dict(meta, scale_factor=(1, 1)))
        sample.gt_sem_seg = PixelData(data=blocks.repeat_interleave(SIZE // 4, 1).repeat_interleave(SIZE // 4, 2))
        samples.append(sample)
    return dict(inputs=images(SIZE), data_samples=samples)


def classification_data(model, size):
    from mmpretrain.structures import DataSample

    classes = model.head.get('num_classes', 10)
    samples = [DataSample() for _ in range(2)]
    for i, sample in enumerate(samples):
        if 'MultiLabel' in model.head.type or 'CSRA' in model.head.type:
            sample.set_gt_score(torch.ones(classes)).set_gt_label([0, 1])
        else:
            sample.set_gt_label(i % classes)
    return dict(inputs=images(size), data_samples=samples)


def data_for(library, model, size=SIZE):
    """Two images with what has to be found in them; always the same ones."""
    seed()
    if library == 'mmpretrain':
        return classification_data(model, size)
    return (detection_data if library == 'mmdet' else segmentation_data)(model)


def seed():
    random.seed(0), np.random.seed(0), torch.manual_seed(0)


class Network:
    """A model of a library that has been built, and how it is run."""

    def __init__(self, library, model, size=SIZE):
        self.library, self.model, self.size = library, model, size
        seed()
        with DefaultScope.overwrite_default_scope(library):
            self.network = revert_sync_batchnorm(MODELS.build(copy.deepcopy(model)))
            self.network.init_weights()
        for module in self.network.modules():  # as mmdet's SetEpochInfoHook does
            if hasattr(module, 'epoch'):
                module.epoch = 0

    def step(self):
        """One loss with gradients."""
        self.network.train()
        data = self.network.data_preprocessor(data_for(self.library, self.model, self.size), True)
        loss, _ = self.network.parse_losses(self.network(**data, mode='loss'))
        assert loss.isfinite()
        loss.backward()
        self.network.eval()

    def predict(self, network=None):
        """All tensors of a prediction."""
        network = network or self.network
        data = network.data_preprocessor(data_for(self.library, self.model, self.size), False)
        seed()
        with torch.no_grad():
            return tensors_of(network(**data, mode='predict'))


def tensors_of(x):
    if torch.is_tensor(x):
        return [x]
    if hasattr(x, 'all_items'):
        items = [(k, v) for k, v in x.all_items() if k.startswith('pred_') or k == 'seg_logits']
        return [t for _, v in items or x.items() for t in tensors_of(v)]
    values = x.values() if isinstance(x, dict) else x if isinstance(x, (list, tuple)) else ()
    return [t for value in values for t in tensors_of(value)]
