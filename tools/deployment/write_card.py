"""Measure a complete packed folder and write its card: figures of each form, firing rate, size, how to use it."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qsdt_mm.cli import ToolParser, run_tool

EXAMPLE = """examples:
  python tools/deployment/write_card.py weights/NAME weights/cards.yml
  python tools/deployment/write_card.py weights/NAME weights/cards.yml --images 8

FOLDER's README.md is written anew. What cannot be measured is in FACTS, under the folder's name: task (as the Hugging
Face hub calls it), what, data, licence, split, recipe, minutes, limits; machine, which took the minutes (else two
cores); metrics, by their names in the results of test.py how the card calls them; options, further words for test.py;
picture, to look at. Without metrics no accuracy is measured: a network has none on its own training images, and
"other" says which figure another network of the same recipe has.

exit status: 0 done, 2 bad input or a failed evaluation, 130 interrupted
"""
NEEDED = ('task', 'what', 'data', 'licence', 'recipe', 'minutes', 'limits')
ALLOWED = (*NEEDED, 'machine', 'split', 'metrics', 'options', 'other', 'picture')
FORMS = dict(float='trainable', integer='trainable', deploy='deploy')
LINES = 120


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('write_card.py', __doc__, EXAMPLE)
    parser.add_argument('folder', help='complete packed folder')
    parser.add_argument('facts', help='YAML file, see below')
    parser.add_argument('--images', default='64', metavar='N', help='for the firing rate (default: 64)')
    return parser.parse_args(argv)


def facts_of(path: str, name: str) -> dict[str, Any]:
    """Return what is said of a network, whole."""
    import yaml

    from qsdt_mm.errors import InputError, one_line, require, why_no_file

    absent = why_no_file(path)
    if absent:
        raise InputError(f'{path} {absent}')
    try:
        facts = (yaml.safe_load(Path(path).read_text(encoding='utf-8')) or {}).get(name)
    except (yaml.YAMLError, AttributeError, ValueError) as error:
        raise InputError(f'{path} is no YAML of facts by name: {one_line(error)[:200]}') from error
    require(isinstance(facts, dict), f'{path}: {name}', facts, 'a dict of facts', InputError)
    missing, unknown = sorted(set(NEEDED) - set(facts)), sorted(set(facts) - set(ALLOWED))
    require(not missing, f'{path}: {name}', f'without {", ".join(missing)}', ', '.join(NEEDED), InputError)
    require(not unknown, f'{path}: {name}', ', '.join(unknown), ', '.join(ALLOWED), InputError)
    return facts


def results_of(tool: str, words: Sequence[str], session) -> dict[str, Any]:
    """Run a tool and return what it has measured."""
    from qsdt_mm.errors import InputError

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'results.json'
        script = Path(__file__).parents[1] / tool
        work_dir = ['--work-dir', folder] if tool == 'test.py' else []
        with session.stage(f'running {tool} {" ".join(words)}'):
            command = [sys.executable, str(script), *words, *work_dir, '--json', str(path)]
            done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ['it says nothing'])[-1]
            raise InputError(f'{tool} {" ".join(words)} has failed: {last}')
        return json.loads(path.read_text())


def measured(folder: Path, facts: dict[str, Any], images: str, session) -> tuple[dict[str, dict[str, float]], float]:
    """Return the figures of each form, by the names on the card, and the firing rate."""
    from qsdt_mm.fileio.folders import kinds_in

    figures: dict[str, dict[str, float]] = {}
    kinds, options = kinds_in(folder), list(map(str, facts.get('options') or ()))
    for form in [form for form, kind in FORMS.items() if kind in kinds and facts.get('metrics')]:
        found = results_of('test.py', [str(folder), '--inference', form, *options], session)['metrics']
        figures[form] = {name: round(found[key], 4) for key, name in facts['metrics'].items()}
    energy = results_of('analysis_tools/energy.py', [str(folder), '--images', images], session)
    return figures, energy['total']['firing_rate']


def card(
    name: str, facts: dict[str, Any], figures: dict[str, dict[str, float]], rate: float, size: str, has_plan: bool
) -> str:
    """Return the text of a card."""
    import yaml

    split, test = facts.get('split', ''), ' '.join(map(str, facts.get('options') or ()))
    head: dict[str, Any] = dict(
        library_name='qsdt_mm',
        license='apache-2.0',
        pipeline_tag=facts['task'],
        tags=['spiking-neural-network', 'quantized', 'openmmlab'],
    )
    result: dict[str, Any] = dict(
        task=dict(type=facts['task']), dataset=dict(name=facts['data'], type=facts['data'], split=split)
    )
    result['metrics'] = [
        dict(type=metric, name=f'{metric}, {form}', value=value)
        for form, found in figures.items()
        for metric, value in found.items()
    ]
    head['model-index'] = [dict(name=name, results=[result])]
    lines = [f'# {name}', '', facts['what'], '', '## Use', '']
    use = ['import qsdt_mm', f"model = qsdt_mm.from_pretrained('{name}')"]
    if has_plan:
        use.append(f"plan = qsdt_mm.from_pretrained('{name}', kind='deploy')")
    lines += [f'    {line}' for line in use]
    example = f'    python demo/image_demo.py {facts.get("picture", "IMAGE")} {name}'
    lines += ['', *([example, ''] if facts['task'] != 'other' else [])]
    lines += ['## Figures', '']
    if figures:
        metrics = list(next(iter(figures.values())))
        lines += [f'On {split}.', '', f'| form | {" | ".join(metrics)} |', '|---|' + '---|' * len(metrics)]
        lines += [f'| {form} | {" | ".join(map(str, found.values()))} |' for form, found in figures.items()]
        shown = ' '.join(filter(None, [f'python tools/test.py {name} --inference {list(figures)[-1]}', test]))
        lines += ['', f'    {shown}', '']
    if facts.get('other'):
        lines += [facts['other'], '']
    lines += [f'{size}. Firing rate: {rate:.3f} of what neurons can count.', '']
    lines += ['## Training', '', f'Data: {facts["data"]}. {facts["licence"]}', '', f'    {facts["recipe"]}', '']
    lines += [f'{facts["minutes"]} minutes on {facts.get("machine", "two cores")}.', '', '## Limits', '']
    lines += [f'- {limit}' for limit in facts['limits']]
    return (
        f'---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=LINES)}---\n' + '\n'.join(lines) + '\n'
    )


def write(args: argparse.Namespace, session) -> None:
    """Measure and write."""
    from qsdt_mm.deploy.pretrained import from_pretrained, true_size
    from qsdt_mm.fileio.atomic import atomic_open
    from qsdt_mm.fileio.folders import CARD, kinds_in, packed_settings

    folder = Path(args.folder)
    packed_settings(folder)
    name = folder.resolve().name
    facts = facts_of(args.facts, name)
    size = true_size(folder, from_pretrained(folder))
    figures, rate = measured(folder, facts, args.images, session)
    with atomic_open(folder / CARD, 'w', encoding='utf-8') as file:
        file.write(card(name, facts, figures, rate, size, 'deploy' in kinds_in(folder)))
    print(f'card     {folder / CARD}')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    return run_tool('write_card.py', lambda session: write(args, session), args.traceback)


if __name__ == '__main__':
    sys.exit(main())
