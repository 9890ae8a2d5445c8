"""tools/dist_train.sh and tools/dist_test.sh on a CPU: two processes, joined over gloo."""

import pytest
import torch
import toy_runs as toy
from copies import joined

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason='one process per GPU there')


def started_by(script, words, tmp_path):
    """What a script has two processes do, as words for the tool: Python is told to write them down."""
    fake, port = tmp_path / 'python', toy.free_port()
    fake.write_text('#!/bin/bash\nprintf "%s\\n" "$@" > "$SEEN"\n')
    fake.chmod(0o755)
    process = toy.start(
        ['bash', toy.ROOT / 'tools' / script, *words], PYTHON=str(fake), SEEN=str(tmp_path / 'seen'), PORT=port
    )
    assert process.communicate(timeout=30) == ('', '') and process.returncode == 0
    first, *seen = (tmp_path / 'seen').read_text().splitlines()
    assert [first, seen[0]] == ['-m', 'torch.distributed.run'] and '--nproc_per_node=2' in seen[:6]
    assert f'--master_port={port}' in seen[:6]
    start = seen.index(str(toy.ROOT / 'tools' / script.removeprefix('dist_').replace('.sh', '.py')))
    return seen[start + 1 :]


def test_training_and_evaluation(tmp_path):
    """What the scripts have torch's launcher start; that it does is below."""
    words = toy.options(train_cfg__max_epochs=2, train_dataloader__num_workers=0)
    started = started_by('dist_train.sh', [toy.CONFIG, '2', '--work-dir', tmp_path / 'run', *words], tmp_path)
    said = joined(lambda: toy.tool('train').main(started), 2, toy.free_port())
    assert '2 processes on CPU, joined over gloo' in ''.join(error for _, error in said)
    assert toy.state(tmp_path / 'run' / 'epoch_2.pth')['meta']['iter'] == 6  # 24 samples, 2 x 4 at a time
    report = tmp_path / 'm.json'
    words = [toy.CONFIG, tmp_path / 'run/epoch_2.pth', '2', '--work-dir', tmp_path / 'eval', '--json', report]
    started = started_by('dist_test.sh', words, tmp_path)
    joined(lambda: toy.tool('test').main(started), 2, toy.free_port())
    assert report.exists()


@pytest.mark.slow  # three processes import torch
def test_they_are_launched_for_a_training(tmp_path):
    words = toy.options(train_cfg__max_epochs=2, train_dataloader__num_workers=0)
    process = toy.start(
        ['bash', toy.ROOT / 'tools/dist_train.sh', toy.CONFIG, '2', '--work-dir', tmp_path / 'run', *words],
        PORT=toy.free_port(),
    )
    out, error = process.communicate(timeout=200)
    assert process.returncode == 0, out[-2000:] + error[-2000:]
    assert '2 processes on CPU, joined over gloo' in error
    assert toy.state(tmp_path / 'run' / 'epoch_2.pth')['meta']['iter'] == 6


@pytest.mark.slow
def test_they_are_launched_for_an_evaluation(tmp_path, tmp_path_factory):
    checkpoint = toy.finished(tmp_path_factory, epochs=1) / 'epoch_1.pth'
    words = [toy.CONFIG, checkpoint, '2', '--work-dir', tmp_path / 'eval', '--json', tmp_path / 'm.json']
    process = toy.start(['bash', toy.ROOT / 'tools/dist_test.sh', *words], PORT=toy.free_port())
    out, error = process.communicate(timeout=200)
    assert process.returncode == 0, out[-2000:] + error[-2000:]
    assert (tmp_path / 'm.json').exists()
