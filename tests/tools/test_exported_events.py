"""A network on events, over time steps, as an ONNX file: the scores of its plan."""

import pickle

import pytest
import torch
import toy_runs as toy
from small_digits import checkpoint_of

pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
pytest.importorskip('mmpretrain')
pytest.importorskip('sklearn')

CONFIG = toy.ROOT / 'configs/neuromorphic/e-micro-4x4_1xb16_moving-digits-direction.py'


def test_a_file_evaluates_as_its_plan(tmp_path, capsys):
    data = tmp_path / 'data'
    making = toy.tool('dataset_converters/make_moving_digits_events')
    assert making.main([str(data), '--train', '4', '--val', '3', '--size', '32']) == 0
    words = [
        *(
            f'{split}_dataloader.{key}'
            for split in ('train', 'test')
            for key in (f'dataset.data_root={data}', 'num_workers=0')
        ),
        'train_dataloader.persistent_workers=False',
        'test_dataloader.persistent_workers=False',
        'test_dataloader.batch_size=2',
    ]
    weights, out = checkpoint_of(CONFIG, words, tmp_path / 'new.pth'), tmp_path / 'net.onnx'
    options = ['--cfg-options', *words]

    def scores(source, *more):
        found = tmp_path / 'out.pkl'
        command = [CONFIG, source, '--work-dir', tmp_path / 'run', '--out', found, *more, *options]
        assert toy.tool('test').main([*map(str, command)]) == 0
        return torch.stack([sample['pred_score'] for sample in pickle.loads(found.read_bytes())])

    command = [CONFIG, weights, out, '--calibrate', 2, '--check', '--dynamic-batch', '--weights', 'int4', *options]
    assert toy.tool('deployment/export_onnx').main([*map(str, command)]) == 0
    said = capsys.readouterr().out
    assert said.count('the same bits as the plan') >= 4 and 'differ' not in said and '4 x 2 x 32 x 32' in said
    expected = scores(weights, '--inference', 'deploy', '--calibrate', 2)
    assert expected.std() > 0 and torch.equal(scores(out), expected)
