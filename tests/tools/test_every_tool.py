"""What holds for every tool."""

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


@pytest.mark.parametrize('name', TOOLS)
def test_an_unknown_option_is_one_line(name, capsys):
    with pytest.raises(SystemExit) as caught:
        toy.tool(name).main(['--no-such-option', 'a', 'b'])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and error.count('\n') == 1 and '--no-such-option' in error
