"""The model zoo: every config is listed, figures are those of its network, and the page says what the metafiles say."""

import importlib.util
from pathlib import Path

import pytest
import yaml

pytest.importorskip('mmpretrain')

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location('model_zoo', ROOT / 'docs/model_zoo.py')
zoo = importlib.util.module_from_spec(spec)
spec.loader.exec_module(zoo)

ENTRIES = [(room, entry) for room in zoo.FOLDERS for entry in zoo.load(room)['Models']]
QUICK = (
    'e-10m_8xb256_in1k',
    'qsd-tiny_1xb32_digits',
    'qsd-small-hard_1xb64_cifar10-folder',
    'spike-mae_e-small_1xb64_cifar10-folder-64px',
    'e-micro-4x4_1xb16_moving-digits-direction',
)
NEEDS = dict(detection='mmdet', segmentation='mmseg')


def test_index_imports_every_metafile():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    assert index == {'Import': sorted(f'configs/{room}/metafile.yml' for room in zoo.FOLDERS)}
    rooms = {path.parent.name for path in (ROOT / 'configs').glob('[!_]*/*.py')}
    assert rooms == set(zoo.FOLDERS)


def test_every_config_is_listed_once_and_every_listed_config_exists():
    for room in zoo.FOLDERS:
        listed = [entry['Config'] for entry in zoo.load(room)['Models']]
        there = [path.relative_to(ROOT).as_posix() for path in zoo.configs(room)]
        assert listed == there, f'python docs/model_zoo.py {room}'
    for room, entry in ENTRIES:
        assert entry['Config'] == f'configs/{room}/{entry["Name"]}.py'
        assert list((ROOT / 'configs').rglob(f'{entry["Name"]}.py')) == [ROOT / entry['Config']]  # mim looks for names


def test_collections():
    """Each is defined once, with its paper, and each model is in one."""
    collections = [collection for room in zoo.FOLDERS for collection in zoo.load(room).get('Collections', [])]
    names = [collection['Name'] for collection in collections]
    assert len(names) == len(set(names))
    assert all(collection['Paper'].startswith('https://arxiv.org/abs/') for collection in collections)
    assert {entry['In Collection'] for _, entry in ENTRIES} == set(names)


def test_weights_come_with_an_address():
    for _, entry in ENTRIES:
        assert entry.get('Weights', 'https://').startswith('https://')


def test_figures_of_large_sets_are_marked_as_the_papers():
    """Nothing was trained on ImageNet or ADE20K here."""
    for _, entry in ENTRIES:
        for result in entry.get('Results', []):
            paper = all(metric.endswith('(paper)') for metric in result['Metrics'])
            assert paper == (result['Dataset'] in ('ImageNet-1k', 'ADE20K')), entry['Name']


def test_docstrings_of_configs_say_the_figures():
    """Those of the metafile, the papers' marked as such; without one, that nothing was trained."""
    for _, entry in ENTRIES:
        said = (ROOT / entry['Config']).read_text(encoding='utf-8').split('"""')[1].partition('Expect: ')[2]
        for result in entry.get('Results', []):
            for metric, value in result['Metrics'].items():
                assert str(value) in said, entry['Name']
                assert metric.endswith('(paper)') == ('in the paper' in said and 'not trained here' in said)


def check(room, entry):
    facts = zoo.facts(ROOT / entry['Config'])
    assert facts == entry['Metadata'], f'out of date: python docs/model_zoo.py {room}'


@pytest.mark.parametrize('name', QUICK)
def test_figures_of_a_few(name):
    check(*next((room, entry) for room, entry in ENTRIES if entry['Name'] == name))


@pytest.mark.slow
@pytest.mark.parametrize(('room', 'entry'), ENTRIES, ids=[entry['Name'] for _, entry in ENTRIES])
def test_figures(room, entry):
    pytest.importorskip(NEEDS.get(room, 'mmpretrain'))
    check(room, entry)


def test_operations_are_those_that_the_energy_tool_counts():
    """With one real image, on the CPU, through the project's own counter."""
    import torch
    from mmengine.registry import MODELS, DefaultScope

    from qsdt_mm.analysis import measure_energy

    (entry,) = (entry for _, entry in ENTRIES if entry['Name'] == 'qsd-tiny_1xb32_digits')
    cfg = zoo.cli.load_config(str(ROOT / entry['Config']))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg.model).eval()
    shape = map(int, entry['Metadata']['Input'].split(' x '))
    report = measure_energy(model, [torch.rand(1, *shape)])
    assert report.as_dict()['total']['dense_macs'] == entry['Metadata']['FLOPs']


@pytest.mark.parametrize('page', zoo.pages(), ids=lambda page: page.parent.name)
def test_pages_are_drawn_from_the_metafiles(page):
    text = page.read_text(encoding='utf-8')
    folder = zoo.folder_of(page)
    assert text == zoo.drawn(text, *folder), 'the tables are not those of the metafiles: python docs/model_zoo.py'
    rooms = zoo.FOLDERS if page == zoo.PAGE else [page.parent.name]
    for room in rooms:
        assert zoo.table(room, *folder) in text
        assert all(f'`{entry["Name"]}`' in text for entry in zoo.load(room)['Models'])


def test_page_says_what_a_network_costs():
    page = zoo.PAGE.read_text(encoding='utf-8')
    link = '[`qsd-55m_8xb196_in1k`](../../configs/classification/qsd-55m_8xb196_in1k.py)'
    assert f'{link} | ImageNet-1k | 4 bits | 1 x 4 | 55.4 M' in page


@pytest.mark.parametrize('room', zoo.FOLDERS)
def test_tables_are_sorted_by_size(room):
    """Within a data set and a kind of network, so that e-173m does not come before e-19m."""
    entries = sorted(zoo.load(room)['Models'], key=zoo.order)
    groups = {}
    for entry in entries:
        data = entry['Metadata']
        groups.setdefault((data['Training Data'], entry['In Collection']), []).append(data['Parameters'])
    assert all(sizes == sorted(sizes) for sizes in groups.values())
    lines = zoo.table(room).splitlines()[2:]
    assert [entry['Name'] for entry in entries] == [line.split('`')[1] for line in lines]


def test_modelindex_reads_it():
    """As mim does: papers and figures are where mim shows them."""
    load = pytest.importorskip('modelindex.load_model_index').load
    index = load(str(ROOT / 'model-index.yml'))
    index.build_models_with_collections()
    assert not index.check(silent=True) and len(index.models) == len(ENTRIES)
    found = {model.name: model for model in index.models}
    assert found['qsd-15m_8xb196_in1k'].metadata.parameters == 15_160_432


def test_dataset_index_says_how_to_get_data():
    """mim downloads a data set by name; each entry has what mim reads."""
    for name, entry in yaml.safe_load((ROOT / 'dataset-index.yml').read_text()).items():
        if name != 'openxlab':
            assert {'dataset', 'download_root', 'data_root'} <= set(entry)
