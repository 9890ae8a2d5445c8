"""Shell lines of README, docs and configs: each parses (fast); those a CPU can run are run, page by page (slow)."""

import ast
import fnmatch
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob('README*.md')), *sorted((ROOT / 'docs/en').glob('*.md'))]
ORIGINALS = [page for page in PAGES if '.' not in page.stem]  # translations show the same lines
# Their lines parse; they are not run, for they are those of the docs or take a set of data or an hour.
PARSED_ONLY = [ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'configs').glob('*/README.md'))]
PROGRAMS = ('python', 'python3', 'make', 'pip', 'source', 'bash', 'git', 'cat', 'ls', 'mkdir', 'cp', 'export')
STARTS = ('python', 'tools/')
CONFIGS = sorted((ROOT / 'configs').glob('[!_]*/*.py'))
SHORT_DIGITS = 'short/qsd-tiny_1xb32_digits.py'

# What is not run, and why. Patterns of whole lines; the test fails where one of them fits no line.
NOT_RUN = {
    'make venv*': 'changes the environment',
    'make test': 'runs this test',
    'make matrix': 'takes half an hour, and has a test of its own',
    'python -m pytest *': 'runs tests, this one among them',
    '*_in1k.py*': 'needs ImageNet',
    '*_coco.py*': 'needs COCO',
    '*ade20k*': 'needs ADE20K',
    '*voc_aug.py*': 'needs VOC2012 and SBD',
    '*_cells*': 'needs data/cells',
    '*cifar10*': 'needs data/cifar10',
    '*published.pth*': 'needs a published checkpoint',
    '*converted.pth*': 'needs a published checkpoint, converted',
    '*colours_to_labels.py masks*': 'needs label images of colours',
    '*events_to_npz.py recordings *': 'needs recordings of events',
    '*_own-events.py*': 'needs recordings of events',
    '*vis_mae.py CONFIG*': 'needs a masked autoencoder',
}
NOT_RUN_PROGRAMS = ('pip', 'source', 'git', 'export')  # they change the environment
# What has to be run before a page's own lines.
BEFORE = {
    'spike_driven_inference': ['make demo'],
    'events': ['python tools/dataset_converters/make_moving_digits_events.py'],
}
# What stands for words in capitals.
DIGITS = {
    'CONFIG': 'configs/classification/qsd-tiny_1xb32_digits.py',
    'CHECKPOINT': 'work_dirs/digits/epoch_12.pth',
    'IMAGE': 'docs/en/images/spikes.png',
}
MOVING = 'e-micro-4x4_1xb16_moving-digits-direction'
PLACEHOLDERS = {
    'README': DIGITS,
    'events': {'CONFIG': f'configs/neuromorphic/{MOVING}.py', 'CHECKPOINT': f'work_dirs/{MOVING}/epoch_5.pth'},
}


def shell_lines(page):
    """Commands of a page: whole fences of a shell, and indented lines that begin with a program."""
    text = page.read_text(encoding='utf-8')
    fences = re.compile(r'^```(\w*)[^\n]*\n(.*?)^```', re.DOTALL | re.MULTILINE)
    found = [(m.start(), m[2]) for m in fences.finditer(text) if m[1] in ('bash', 'sh', 'shell', 'console')]
    bare = fences.sub(lambda m: '\n' * 2 + ' ' * max(len(m[0]) - 2, 0), text)  # keeps the places
    found += [(m.start(), m[0]) for m in re.finditer(r'(?:^(?: {4}|\t)\S.*\n(?: {4,}.*\n)*)', bare, re.MULTILINE)]
    lines = []
    for _, block in sorted(found):
        for line in re.sub(r'\\\n\s*', '', block).splitlines():
            line = ' '.join(line.strip().removeprefix('$ ').split(' '))
            words = line.split()
            if words and (words[0] in PROGRAMS or re.match(r'(?:tools/\S+\.sh|[A-Z_]+=\S+)$', words[0])):
                lines.append(re.sub(r'\s{2,}# .*', '', line))
    return lines


LINES = [(page, line) for page in PAGES for line in shell_lines(page)]


def reason_not_to_run(line):
    """Why a line is not run; None if it is."""
    if line.split()[0] in NOT_RUN_PROGRAMS or re.match(r'python3? -m (?:pip|venv) ', line):
        return 'changes the environment'
    return next((why for pattern, why in NOT_RUN.items() if fnmatch.fnmatchcase(line, pattern)), None)


def words_of(line):
    """The command's words, without variables set before it."""
    words = shlex.split(line, comments=True)
    while words and re.match(r'[A-Za-z_]+=', words[0]):
        words = words[1:]
    return words


def is_placeholder(word):
    return re.fullmatch(r'[A-Z]+(?:\.\w+)?', word) is not None or 'NAME' in word


def load(path):
    """The module of a tool."""
    spec = importlib.util.spec_from_file_location(f'docs_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestEveryLineParses:
    """Nothing is run: tools, their options, configs and keys exist."""

    @pytest.mark.parametrize('page', [*ORIGINALS, *PARSED_ONLY], ids=lambda page: page.relative_to(ROOT).as_posix())
    def test_page(self, page, capsys):
        self.check_lines(shell_lines(page), capsys)

    @pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
    def test_docstring_of_a_config(self, path, capsys):
        """Its last command trains this config; data and expectation follow."""
        what, _, rest = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))).partition('\n\n')
        assert what.endswith('.') and '\n' not in what
        found = re.fullmatch(r'(.*?)\nData: (.+?)\nExpect: (.+)', rest, re.DOTALL)
        assert found, 'expected commands, then "Data: ...", then "Expect: ..."'
        lines = [line for line in found[1].splitlines() if line.split()[:1] and line.split()[0].startswith(STARTS)]
        self.check_lines(lines, capsys)
        words = words_of(lines[-1])
        config = path.relative_to(ROOT).as_posix()
        gpus = int(re.search(r'_(\d+)xb', path.stem)[1])
        if gpus == 1:
            assert words[:3] == ['python', 'tools/train.py', config]
        else:
            assert words[:3] == ['tools/dist_train.sh', config, str(gpus)]
        assert ('not trained here' in found[3]) or re.search(r'\b(minutes?|hour|s on)\b', found[3])

    def check_lines(self, lines, capsys):
        for line in lines:
            words = words_of(line)
            if words[0].startswith('tools/'):
                assert os.access(ROOT / words[0], os.X_OK), line
                self.check_config(words[1], [], line)
            elif words[0] == 'make':
                for target in [word for word in words[1:] if '=' not in word]:
                    assert re.search(rf'^{target}:', (ROOT / 'Makefile').read_text(), re.MULTILINE), line
            elif words[0].startswith('python') and words[1:2] == ['-m']:
                assert words[2] in ('pip', 'venv') or importlib.util.find_spec(words[2]), line
            elif words[0].startswith('python') and words[1].endswith('.py') and not words[1].startswith('$('):
                self.check_tool(words, line, capsys)

    def check_tool(self, words, line, capsys):
        path = ROOT / words[1]
        assert path.is_file(), line
        if path.is_relative_to(ROOT / 'docs') or not path.is_relative_to(ROOT):
            return
        try:
            args = load(path).parse_args([word for word in words[2:] if word != '...'])
        except SystemExit as stopped:
            assert stopped.code == 0, f'{line}: {capsys.readouterr().err}'
            return
        if getattr(args, 'config', None):
            self.check_config(args.config, args.cfg_options, line)

    def check_config(self, config, options, line):
        from qsdt_mm.cli import load_config

        if is_placeholder(config) or config == 'converted.pth.py':  # which the converter writes
            return
        name = (ROOT / 'weights' / config / 'config.json').is_file()  # of a network that comes with the package
        assert name or (ROOT / config).is_file(), line
        load_config(config if name else str(ROOT / config), options)  # InputError names a key that means nothing


def test_lines_are_found():
    """In both forms, continued lines in one piece, equations and folders left alone."""
    lines = [line for _, line in LINES]
    assert 'make demo' in lines and 'python -m qsdt_mm.doctor' in lines
    assert any(line.startswith('python tools/train.py') and '--cfg-options' in line for line in lines)
    assert not any(line.endswith('\\') or '\n' in line for line in lines)
    assert len(lines) > 40


def test_a_page_of_both_forms(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text(
        'Text\n\n    python a.py \\\n        --b 1\n    u = h + x\n'
        '\n```bash\nmake demo\npython -c "print(1)"  # why\n```\n'
        '\n```python\n    python = 1\n```\n\n    make test\n',
        encoding='utf-8',
    )
    assert shell_lines(page) == ['python a.py --b 1', 'make demo', 'python -c "print(1)"', 'make test']


@pytest.mark.parametrize('pattern', NOT_RUN)
def test_the_list_of_what_is_not_run_is_not_stale(pattern):
    assert any(fnmatch.fnmatchcase(line, pattern) for _, line in LINES), pattern


def test_the_other_lists_are_not_stale():
    stems = {page.stem: ' '.join(shell_lines(page)) for page in PAGES}
    for page in (*BEFORE, *PLACEHOLDERS):
        assert page in stems, page
    for page, words in PLACEHOLDERS.items():
        for word in words:
            assert re.search(rf'\b{word}\b', stems[page]), (page, word)


@pytest.mark.parametrize('page', sorted(ROOT.glob('README.*.md')), ids=lambda page: page.stem)
def test_translations_show_the_same_commands(page):
    """So that what is run for the README holds for them."""
    assert shell_lines(page) == shell_lines(ROOT / 'README.md')


class Folder:
    """A working folder with links to the repository's, where trainings are short."""

    def __init__(self, path):
        self.path = path
        for name in ('configs', 'tools', 'demo', 'docs', 'qsdt_mm', 'requirements', 'Makefile', 'setup.py'):
            (path / name).symlink_to(ROOT / name)
        (path / 'data').mkdir()
        (path / 'short').mkdir()
        base = ROOT / 'configs/classification/qsd-tiny_1xb32_digits.py'
        (path / SHORT_DIGITS).write_text(f'_base_ = {str(base)!r}\nmax_epochs = 1\ntrain_cfg = dict(max_epochs=1)\n')
        self.env = {
            **os.environ,
            'PATH': os.pathsep.join([str(Path(sys.executable).parent), os.environ['PATH']]),
            'PYTHONPATH': str(ROOT),
            'OMP_NUM_THREADS': '1',
        }
        self.ends = {'work_dirs/demo': 'epoch_12.pth'}  # what a whole training would leave

    def short(self, line):
        """The same command, with a short training."""
        from mmengine.config import Config

        if line == 'make demo':
            bin_ = Path(sys.executable).parent
            return f'make demo -o .venv/.installed BIN={bin_} DEMO_CONFIG={SHORT_DIGITS}'
        words = words_of(line)
        if 'make_moving_digits_events.py' in line:
            return f'{line} --train 64 --val 32 --overwrite'
        if words[:2] != ['python', 'tools/train.py']:
            return line
        args = load(ROOT / words[1]).parse_args(words[2:])
        cfg = Config.fromfile(self.path / args.config)
        in_epochs = 'max_epochs' in cfg.train_cfg
        last = cfg.train_cfg.max_epochs if in_epochs else cfg.train_cfg.max_iters
        for option in args.cfg_options or []:
            key, _, value = option.partition('=')
            last = int(value) if key in ('train_cfg.max_epochs', 'train_cfg.max_iters') else last
        work_dir = args.work_dir or f'work_dirs/{Path(args.config).stem}'
        self.ends[work_dir.rstrip('/')] = f'{"epoch" if in_epochs else "iter"}_{last}.pth'
        options = ['train_cfg.max_epochs=1'] if in_epochs else ['train_cfg.max_iters=4', 'train_cfg.val_interval=4']
        if not in_epochs:
            options.append('default_hooks.checkpoint.interval=4')
        return f'{line} --cfg-options {" ".join(options)}'

    def checkpoints(self, line):
        """Put the last checkpoint of a short training where the line expects that of a whole one."""
        for work_dir, name in re.findall(r'(work_dirs/[\w./-]+?)/((?:epoch|iter)_\d+\.pth)', line):
            assert self.ends.get(work_dir) == name, f'{line}: {work_dir} ends with {self.ends.get(work_dir)}'
            target = self.path / work_dir / name
            if not target.exists():
                target.symlink_to((self.path / work_dir / 'last_checkpoint').read_text().strip())

    def run(self, line):
        """Run one line; its output."""
        self.checkpoints(line)
        done = subprocess.run(
            ['bash', '-c', self.short(line)], cwd=self.path, env=self.env, capture_output=True, text=True, timeout=1500
        )
        assert done.returncode == 0, (
            f'{line}\nleft with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}'
        )
        return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize('page', [p for p in PAGES if '.' not in p.stem and shell_lines(p)], ids=lambda page: page.stem)
def test_lines_run(page, tmp_path):
    """In order; trainings are short, and checkpoints they would end with are checked by name."""
    folder = Folder(tmp_path)
    for line in [*BEFORE.get(page.stem, []), *shell_lines(page)]:
        if reason_not_to_run(line):
            continue
        for word, value in PLACEHOLDERS.get(page.stem, {}).items():
            line = re.sub(rf'\b{word}\b', value, line)
        folder.run(line)
