"""Names and shapes of tensors are as at 7b72691, before classes were renamed: checkpoints of then fit."""

import hashlib
import importlib
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

CONFIGS = Path(__file__).parents[1] / 'configs'
# Of the names and shapes, sorted, a line each; from the code and the configs of that commit.
DIGESTS = {
    'classification/qsd-15m_8xb196_in1k': 'f05f40597716e2f7',
    'classification/e-10m_8xb256_in1k': '06a74b6f0d18267b',
    'classification/e-83m_8xb128_in1k': '219a6451fe70951a',
    'classification/qsd-tiny_1xb32_digits': '917e957c7308dc4e',
    'detection/mask-rcnn_qsd-small_fpn_1xb4-18e_cells': '3e20772187cb0810',
    'detection/retinanet_e-10m_fpn_8xb2-1x_coco': '1204e5f7f38d2dde',
    'distillation/qsd-small-fgd_1xb64_cifar10-folder': 'a5673ede41f4457f',
    'neuromorphic/qsd-8m-4x4_8xb16_hardvs': 'afd35c64151c2499',
    'segmentation/semantic-fpn_qsd-small_1xb8-500i_cells-256x256': '7551401a4e3ae2a1',
    'selfsup/spike-mae_e-small_1xb64_cifar10-folder-64px': '28332ce3c184b759',
}


@pytest.mark.parametrize('name', DIGESTS)
def test_names_and_shapes_stay(name):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    pytest.importorskip(cfg.default_scope)
    importlib.import_module(f'{cfg.default_scope}.models')
    if cfg.get('data_preprocessor') is not None:
        cfg.model.setdefault('data_preprocessor', cfg.data_preprocessor)
    with torch.device('meta'), DefaultScope.overwrite_default_scope(cfg.default_scope):
        tensors = MODELS.build(cfg.model).state_dict()
    text = '\n'.join(sorted(f'{key} {tuple(tensor.shape)}' for key, tensor in tensors.items()))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == DIGESTS[name]
