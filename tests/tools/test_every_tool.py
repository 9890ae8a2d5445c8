"""What holds for every tool."""

import subprocess
import sys

import pytest
import toy_runs as toy

TOOLS = sorted(str(path.relative_to(toy.ROOT / 'tools').with_suffix('')) for path in (toy.ROOT / 'tools').rglob('*.py'))


@pytest.mark.parametrize('name', TOOLS)
def test_help_has_an_example_that_names_the_tool(name, capsys):
    with pytest.raises(SystemExit) as caught:
        toy.tool(name).main(['-h'])
    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert 'examples:' in text and f'python tools/{name}.py' in text.partition('examples:')[2]


@pytest.mark.parametrize('words', [*([f'tools/{name}.py'] for name in TOOLS), ['-m', 'qsdt_mm.doctor']], ids=' '.join)
def test_help_comes_at_once(words):
    """Without torch, which takes seconds."""
    command = [sys.executable, '-X', 'importtime', *words, '--help']
    process = subprocess.run(command, cwd=toy.ROOT, capture_output=True, text=True)
    imported = {line.rpartition('|')[2].strip() for line in process.stderr.splitlines()}
    assert process.returncode == 0 and process.stdout.startswith('usage: ') and 'argparse' in imported
    assert not {'torch', 'numpy', 'mmengine'} & imported


@pytest.mark.slow
def test_a_program_of_others_gets_the_whole_package_with_its_help(tmp_path):
    program = tmp_path / 'mine.py'
    program.write_text('import sys, qsdt_mm\nprint(qsdt_mm.IELIF.__name__, "torch" in sys.modules)')
    process = subprocess.run([sys.executable, program, '-h'], cwd=toy.ROOT, capture_output=True, text=True)
    assert process.stdout == 'IELIF True\n', process.stderr


@pytest.mark.parametrize('name', TOOLS)
def test_an_unknown_option_is_one_line(name, capsys):
    with pytest.raises(SystemExit) as caught:
        toy.tool(name).main(['--no-such-option', 'a', 'b', 'c'])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count('\n') == 1 and '--no-such-option' in error


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('test', ['{config}', '{file}', '--json', '{file}']),
        ('test', ['{config}', '{file}', '--json', '{link}']),
        ('test', ['{config}', '{file}', '--out', 'x.pkl', '--json', './x.pkl']),
        ('misc/print_config', ['{config}', '--save-path', '{config}']),
        ('analysis_tools/energy', ['{config}', '{file}', '--json', '{config}']),
        ('analysis_tools/compare_inference', ['{config}', '{file}', '--json', '{file}']),
        ('analysis_tools/benchmark', ['{config}', '--json', '{config}']),
        ('analysis_tools/vis_mae', ['{config}', '{file}', '--images', 'a.png', '{link}', '--out', '{file}']),
    ],
)
def test_no_tool_writes_over_what_it_reads(name, words, tmp_path, capsys):
    """Also by another name, a link here."""
    file, config, link = tmp_path / 'x.pth', tmp_path / 'c.py', tmp_path / 'link.pth'
    for path in (file, config):
        path.write_text('mine')
    link.hardlink_to(file)
    with pytest.raises(SystemExit) as caught:
        toy.tool(name).main([word.format(file=file, config=config, link=link) for word in words])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count('\n') == 1 and 'too, and would take its place' in error
    assert file.read_text() == config.read_text() == 'mine'


@pytest.mark.parametrize(
    ('name', 'words', 'order'),
    [
        ('test', ['a/epoch_1.pth', 'c.py'], 'CONFIG CHECKPOINT'),
        ('analysis_tools/energy', ['a.pth', 'c.py', '--json', 'x.json'], 'CONFIG CHECKPOINT'),
        ('deployment/pack', ['a.PTH', 'c.yml', 'folder'], 'CONFIG CHECKPOINT'),
        ('../demo/image_demo', ['c.py', 'a.pth', 'cat.JPG'], 'IMAGE CONFIG CHECKPOINT'),
    ],
)
def test_swapped_arguments_are_named(name, words, order, capsys):
    with pytest.raises(SystemExit) as caught:
        toy.tool(name).main(words)
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count('\n') == 1 and error.endswith(f': the order is {order}\n')
    assert all(word in error for word in words[:2])
