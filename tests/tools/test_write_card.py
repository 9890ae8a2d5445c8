"""tools/deployment/write_card.py: cards with what was measured, and nothing that was not."""

import pytest
import toy_runs as toy
import yaml

from qsdt_mm.deploy.listing import card_facts
from qsdt_mm.errors import InputError

FACTS = dict(
    task='image-classification', what='A net.', data='Digits', licence='Free.', recipe='python tools/train.py X'
)
FACTS |= dict(minutes=2, limits=['None.'], split='held out', metrics={'accuracy/top1': 'top-1'})


@pytest.fixture
def writer():
    return toy.tool('deployment/write_card')


def test_figures_are_in_the_head_and_in_the_table(writer, tmp_path):
    figures = dict(float={'top-1': 98.3099}, deploy={'top-1': 98.5916})
    text = writer.card('net', FACTS | dict(options=['--image-size', 8, 8]), figures, 0.25, '1 MB', True)
    (tmp_path / 'README.md').write_text(text)
    head = card_facts(tmp_path)
    (result,) = head['model-index'][0]['results']
    assert [(m['name'], m['value']) for m in result['metrics']] == [
        ('top-1, float', 98.3099),
        ('top-1, deploy', 98.5916),
    ]
    assert '| deploy | 98.5916 |' in text and 'test.py net --inference deploy --image-size 8 8' in text
    assert head['pipeline_tag'] == 'image-classification' and 'Firing rate: 0.250' in text


def test_without_metrics_no_accuracy_is_printed(writer):
    facts = {key: value for key, value in FACTS.items() if key != 'metrics'}
    text = writer.card('net', facts | dict(other='Another network of this recipe has 80 %.'), {}, 0.25, '1 MB', False)
    assert 'Another network' in text and '--inference' not in text and "kind='deploy'" not in text
    assert yaml.safe_load(text.split('---\n')[1])['model-index'][0]['results'][0]['metrics'] == []


@pytest.mark.parametrize(
    ('text', 'word'),
    [
        (yaml.safe_dump(dict(other=FACTS)), 'a dict of facts'),
        (yaml.safe_dump(dict(net=dict(task='x'))), 'without data'),
        (yaml.safe_dump(dict(net=dict(FACTS, color=1))), 'color'),
        ('[1', 'is no YAML'),
        ('3', 'is no YAML'),
    ],
)
def test_facts_that_are_none_are_one_line(writer, tmp_path, text, word):
    (tmp_path / 'facts.yml').write_text(text)
    with pytest.raises(InputError, match=word) as caught:
        writer.facts_of(str(tmp_path / 'facts.yml'), 'net')
    assert '\n' not in str(caught.value)
    with pytest.raises(InputError, match='does not exist'):
        writer.facts_of(str(tmp_path / 'none.yml'), 'net')


def test_a_folder_that_is_not_complete_is_left_alone(writer, tmp_path, capsys):
    assert writer.main([str(tmp_path), 'facts.yml']) == 2
    assert 'is no packed network' in capsys.readouterr().err and not list(tmp_path.iterdir())
