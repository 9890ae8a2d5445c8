"""The messages that docs/en/troubleshooting.md quotes are in the package (fast) and are what the tools say (slow)."""

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / 'docs/en/troubleshooting.md').read_text(encoding='utf-8')
QUOTED = re.findall(r'^```text\n\$ (.+)\n(.+)\n```', PAGE, re.MULTILINE)
INLINE = [
    'LABELS.png has the label 151: expected 0 to 149, or 255 for pixels to ignore',
    'NEURON fires no spike at iteration 300: what follows learns nothing',
    'energy was not counted: WHY',
    'report.html was not written: WHY',
    'checkpoint FILE cannot be resumed: it has no optimizer, param_schedulers',
    'the schedule and the optimizer settings of the checkpoint go on, not those of the configuration: lr is 0.001, not',
    'checkpoint FILE is truncated or damaged (ERROR: WHY)',
    'qsdt_mm needs mmdet, which is not installed: pip install onedl-mmdetection',
    "mmcv's op NAME has no stand-in (config FILE needs it): WHY",
    'work directory DIR is in use by train.py, process 4321 on HOST, since TIME: wait for it to end, or choose another',
    'work directory DIR cannot be written: No space left on device',
    'no temporary file can be written (in /tmp, /var/tmp): set TMPDIR to a folder that takes some',
    '--cfg-options NAME=1: nothing reads NAME, unless code of your own does (runner.cfg.NAME)',
    'FILE.npz has no field t, p: expected t, x, y, p; it has a, b',
    'FILE: the 860 boxes fit their outlines if they are read as corners (left, top, right, bottom)',
    'FILE: 0 of 860 boxes are left, the others are passed over: 860 less than 1 px wide or high',
    'FILE: 12 of 860 boxes leave their image, by up to 3.5 px, and are trained on as they are',
    'FILE has no outlines (segmentation) for its 860 boxes: write them, or use a config for boxes only',
    'FILE: all 860 annotations have iscrowd=1 and are left out: set iscrowd=0 for single objects',
    "FILE has no category 'cat', which is among the classes: the classes are cat, dog; its categories are dog",
    'IMAGE has 4032 x 3024 pixels: its annotations say 3024 x 4032',
    'FILE has no annotation to compare results with',
]
LISTED = [' '.join(message.split()) for message in re.findall(r'^- `([^`]+)`:? ', PAGE, re.MULTILINE)]
LEAST = 12  # letters that a message of the package has to share with a quotation


def template(node):
    """A string as a regular expression, in which what is filled in may be anything."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.escape(node.value)
    if isinstance(node, ast.JoinedStr):
        return ''.join(template(v) if isinstance(v, ast.Constant) else '.+?' for v in node.values)
    return None


@pytest.fixture(scope='module')
def messages():
    """All strings of package and tools that are long enough to tell one message from another."""
    found = set()
    for folder in ('qsdt_mm', 'tools', 'demo'):
        for path in (ROOT / folder).rglob('*.py'):
            found |= {template(node) for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))}
    return [re.compile(one) for one in found - {None} if len(re.sub(r'\.\+\?|\\', '', one).strip()) >= LEAST]


def in_package(text, messages):
    """Whether a string of the package, with something filled in, makes up most of what a quotation says."""
    said = re.sub(r'^\w+\.py: error: (?:building the [\w ]+: )?(?:ValueError: )?', '', text)
    longest = max((found[0] for one in messages if (found := one.search(said))), key=len, default='')
    return len(longest) >= 0.35 * len(said)


@pytest.mark.parametrize('message', [message for _, message in QUOTED] + INLINE + LISTED)
def test_message_is_in_the_package(message, messages):
    assert in_package(message, messages) or 'No such file or directory' in message


def test_the_search_can_fail(messages):
    assert not in_package('train.py: error: the moon is not in the sky', messages)
    assert not in_package('energy.py: error: config a.py exists no more and never did', messages)


def test_inline_messages_are_on_the_page():
    page = ' '.join(PAGE.split())
    for message in INLINE:
        assert message in page
    assert len(QUOTED) > 20 and len(LISTED) > 8


@pytest.mark.slow
def test_the_tools_say_so(tmp_path):
    """Each command as it is printed, in a folder with one finished training."""
    for name in ('configs', 'tools', 'demo', 'qsdt_mm'):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / 'empty').mkdir()
    env = {
        **os.environ,
        'PATH': os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']]),
        'PYTHONPATH': str(ROOT),
        'OMP_NUM_THREADS': '1',
    }

    def run(line):
        return subprocess.run(shlex.split(line), cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600)

    assert run('python tools/dataset_converters/make_shapes.py --train 8 --val 4').returncode == 0
    digits = 'configs/classification/qsd-tiny_1xb32_digits.py'
    done = run(f'python tools/train.py {digits} --work-dir work_dirs/used --cfg-options train_cfg.max_epochs=1')
    assert done.returncode == 0, done.stderr
    (tmp_path / 'work_dirs/used/epoch_1.pth').rename(tmp_path / 'work_dirs/used/epoch_12.pth')
    for best in (tmp_path / 'work_dirs/used').glob('best*'):
        best.unlink()
    wrong = []
    for line, message in QUOTED:
        done = run(line)
        if message not in done.stderr.splitlines() or done.returncode not in (1, 2):
            wrong.append(f'{line}\nshould say {message}\nsaid {done.returncode}: {done.stderr[-1000:]}')
    assert not wrong, '\n\n'.join(wrong)
