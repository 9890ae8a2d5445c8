"""Pictures of predictions for event frames."""

import pytest
import torch

pytest.importorskip('mmpretrain')

import mmcv  # noqa: E402
from mmpretrain.structures import DataSample  # noqa: E402
from mmpretrain.visualization import UniversalVisualizer  # noqa: E402

from qsdt_mm.engine.hooks.event_pictures import EventVisualizationHook  # noqa: E402
from qsdt_mm.visualization.events import GAP, contact_sheet  # noqa: E402


def test_frames_stand_side_by_side_on_one_scale():
    frames = torch.zeros(3, 2, 100, 50)
    frames[0, 1, 10, 20] = 4  # brighter: red
    frames[2, 0, 10, 20] = 1  # darker, and a quarter of it: blue, less so
    picture = contact_sheet(frames)
    assert picture.shape == (3, 200, 3 * 100 + 2 * GAP)
    red, green, blue = picture[:, 20, 40]
    assert red > 250 and green < 30 and blue < 50
    red, green, blue = picture[:, 20, 2 * (100 + GAP) + 40]
    assert blue > 250 and 100 < red < 200
    assert (picture[:, :, :100].reshape(3, -1).mean(1) > 250).all(), 'white where nothing happened'


def test_the_hook_writes_them(tmp_path):
    visualizer = UniversalVisualizer.get_instance('pictures')
    hook = EventVisualizationHook(enable=True, interval=2, out_dir=str(tmp_path))
    hook._visualizer = visualizer
    samples = [DataSample().set_pred_score(torch.eye(4)[i]).set_gt_label(i) for i in range(4)]
    hook.after_test_iter(None, 0, dict(inputs=torch.rand(4, 2, 2, 32, 32)), samples)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['0_0.png', '2_0.png']
    assert mmcv.imread(str(tmp_path / '0_0.png')).shape == (224, 2 * 224 + GAP, 3)
