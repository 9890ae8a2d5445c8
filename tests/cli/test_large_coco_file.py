"""A COCO file of any size: read with a line that says so, checked in seconds, parsed once."""

import time

import pytest
from large_coco import write_large_coco

from qsdt_mm.cli import annotation_checks, coco_reading
from qsdt_mm.cli.annotation_uses import Use
from qsdt_mm.datasets.coco_files import forget, take

NAMES = tuple(f'class {i}' for i in range(1, 81))


def check(path, remarks):
    """Check a file as a run with masks does; return the seconds of CPU that parsing took, and all the rest."""
    spent = []

    def timed(path):
        start = time.process_time()
        held = coco_reading.read_json(path)
        spent.append(time.process_time() - start)
        return held

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(annotation_checks, 'read_json', timed)
        start = time.process_time()
        annotation_checks.check_coco_file(
            path, uses=[Use('train', str(path), classes=NAMES, outlines=True)], remark=remarks.append
        )
        return spent[0], time.process_time() - start - spent[0]


def test_the_file_that_is_measured_with_is_in_order(tmp_path):
    remarks, path = [], tmp_path / 'large.json'
    write_large_coco(path, images=60)
    check(path, remarks)
    assert remarks == [] and len(take(path).held['annotations']) == 437 and take(path) is None


@pytest.mark.parametrize('terminal', [False, True])
def test_a_line_says_what_is_read(tmp_path, monkeypatch, capsys, terminal):
    path = tmp_path / 'large.json'
    write_large_coco(path, images=20)
    check(path, [])
    assert capsys.readouterr().err == ''
    monkeypatch.setattr(coco_reading, 'LONG', 1000)
    if terminal:
        monkeypatch.setenv('FORCE_COLOR', '1')
        monkeypatch.setenv('COLUMNS', '500')
    check(path, [])
    said = capsys.readouterr().err
    wanted = ['(0 MB): boxes', '(0 MB): outlines'] if terminal else [f'reading {path} (0 MB)\n']
    assert all(one in said for one in wanted)
    forget()


@pytest.mark.slow
def test_the_size_of_cocos_training_set(tmp_path):
    remarks, path = [], tmp_path / 'large.json'
    try:
        write_large_coco(path)
        assert path.stat().st_size > 440e6
        parsing, checking = check(path, remarks)
        assert remarks == [] and len(take(path).held['annotations']) == 860_000
        assert checking < 5, f'{parsing:.1f} s of parsing, {checking:.1f} s of checks'
    finally:
        path.unlink(missing_ok=True)
        forget()
