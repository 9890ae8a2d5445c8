"""Every small config predicts for any picture in its library's own inferencer, with nothing but the config at hand."""

import copy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

import qsdt_mm  # noqa: F401  mmdet imports without compiled ops after it
from qsdt_mm.errors import InputError

pytestmark = pytest.mark.filterwarnings('ignore')
CONFIGS = Path(__file__).parents[1] / 'configs'
EVENTS = 'neuromorphic/e-micro-1x4_1xb16_moving-digits-digit'


def small(*folders):
    """Configs for one device, as they are called from here."""
    found = (path for folder in folders for path in sorted((CONFIGS / folder).glob('*_1xb*.py')))
    names = (f'{path.parent.name}/{path.stem}' for path in found)
    # Networks for the cells take larger images, and longer.
    return [pytest.param(name, marks=pytest.mark.slow) if 'cells' in name else name for name in names]


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    """The same picture as an array and in files of many kinds."""
    folder = tmp_path_factory.mktemp('pictures')
    colour = np.random.default_rng(0).integers(0, 256, (48, 56, 3), dtype=np.uint8)
    alpha = colour[..., :1]
    Image.fromarray(colour).save(folder / 'colour.png')
    Image.fromarray(colour).save(folder / 'colour.jpg')
    Image.fromarray(colour).convert('CMYK').save(folder / 'cmyk.jpg')
    Image.fromarray(colour).quantize(16).save(folder / 'palette.png')
    Image.fromarray(np.dstack([colour, alpha])).save(folder / 'alpha.png')
    Image.fromarray(colour[..., 0]).save(folder / 'grey.png')
    Image.fromarray(colour[..., 0]).convert('1').save(folder / 'black_and_white.png')
    Image.fromarray(np.dstack([colour[..., :1], alpha])).save(folder / 'grey_alpha.png')
    cv2.imwrite(str(folder / 'grey_16_bits.png'), colour[..., 0].astype(np.uint16) * 257)
    cv2.imwrite(str(folder / 'colour_16_bits.png'), colour.astype(np.uint16) * 257)
    return [colour, *(str(path) for path in sorted(folder.iterdir()))]


def config(name):
    return str(CONFIGS / f'{name}.py')


@pytest.mark.parametrize('name', small('classification', 'distillation'))
def test_classifiers(name, pictures):
    pytest.importorskip('mmpretrain')
    from mmpretrain import FeatureExtractor, ImageClassificationInferencer, get_model

    model = get_model(config(name), device='cpu')
    classes = model.head.num_classes if hasattr(model, 'head') else model.student.head.num_classes
    predictions = ImageClassificationInferencer(model)(pictures, batch_size=1)
    assert len(predictions) == len(pictures)
    for prediction in predictions:
        scores = prediction['pred_scores']
        assert scores.shape == (classes,) and abs(scores.sum() - 1) < 1e-4
        assert prediction['pred_label'] == scores.argmax()
    assert len(FeatureExtractor(model)(pictures[:2])) == 2


@torch.no_grad()
def test_a_digit_from_a_file_is_the_digit_of_the_data_set(tmp_path):
    pytest.importorskip('mmpretrain')
    pytest.importorskip('sklearn')
    from mmengine.registry import DATASETS, DefaultScope
    from mmpretrain import ImageClassificationInferencer, get_model

    name = config('classification/qsd-tiny_1xb32_digits')
    model, cfg = get_model(name, device='cpu'), Config.fromfile(name)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        data = DATASETS.build(cfg.test_dataloader.dataset)
    infer = ImageClassificationInferencer(model)
    for index in (0, 100, 354):
        image, sample = data.get_data_info(index)['img'], data[index]
        resized = cv2.resize(image, (32, 32), interpolation=cv2.INTER_CUBIC)
        assert torch.equal(sample['inputs'][0], torch.as_tensor(resized)), 'grey digits pass unchanged'
        cv2.imwrite(str(tmp_path / 'digit.png'), image)
        batch = dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']])
        expected = model.test_step(batch)[0].pred_score.numpy()
        for picture in (str(tmp_path / 'digit.png'), image, image.repeat(3, axis=2)):
            assert np.array_equal(infer(picture)[0]['pred_scores'], expected)


def test_a_picture_for_a_network_of_events_is_one_line():
    pytest.importorskip('mmpretrain')
    from mmpretrain import ImageClassificationInferencer, get_model

    infer = ImageClassificationInferencer(get_model(config(EVENTS), device='cpu'))
    with pytest.raises(InputError, match='files of events or frames, not pictures'):
        infer(np.zeros((34, 34, 3), np.uint8))


@pytest.mark.parametrize('name', small('segmentation'))
def test_segmentors(name, pictures):
    pytest.importorskip('mmseg')
    from mmseg.apis import MMSegInferencer, inference_model, init_model

    infer = MMSegInferencer(config(name), device='cpu', show_progress=False)
    for prediction in infer(pictures)['predictions']:
        assert prediction.shape == (48, 56)
    for picture in pictures[:2]:
        assert inference_model(init_model(config(name), device='cpu'), picture).pred_sem_seg.shape == (48, 56)


@pytest.mark.parametrize('name', small('detection'))
def test_detectors(name, pictures):
    pytest.importorskip('mmdet')
    from mmdet.apis import DetInferencer, inference_detector, init_detector

    cfg = Config.fromfile(config(name))
    cfg.model.test_cfg.rpn.update(nms_pre=50, max_per_img=20)  # untrained, it would propose hundreds
    cfg.model.test_cfg.rcnn.max_per_img = 5
    model = init_detector(copy.deepcopy(cfg), device='cpu')
    for picture in reversed(pictures[:2]):  # after an array mmdet takes no path from the same model
        assert len(inference_detector(model, picture).pred_instances) <= 5
    infer = DetInferencer(cfg, device='cpu', show_progress=False)
    predictions = infer(pictures, no_save_vis=True, return_datasamples=False)['predictions']
    assert len(predictions) == len(pictures) and all(len(a['scores']) == len(a['bboxes']) <= 5 for a in predictions)
