"""What the site needs beyond MkDocs: the pages that are there, a page for each config, whole figures."""

from __future__ import annotations

import ast
import re
from pathlib import Path

CONFIG = re.compile(r'\]\(\.\./\.\./(configs/\w+/[\w.-]+)\.py\)')
PLAIN = ('glossary.md', 'api.md', 'migration.md')  # pages without tooltips
WIDE = ('model_zoo.md', 'downstream.md')  # tables take the place of the page's own contents
OUTSIDE = re.compile(r'\[([^\]]+)\]\(\.\./\.\./[^)]+\)')
ROLES = re.compile(r':(?:class|func|meth|mod|attr|data|exc):(?=<code>)')
# A box as on GitHub, whose first words in bold become its title: > [!WARNING]
BOX = re.compile(r'^> \[!(\w+)\]\n> \*\*([^*]+?)\.?\*\* ', re.MULTILINE)
ABBR = re.compile(r'<abbr title="([^"]*)">(.*?)</abbr>')
HEADING = re.compile(r'(<h\d.*?</h\d>)', re.DOTALL)
CODE = re.compile(r'(<pre.*?</pre>|<code.*?</code>)', re.DOTALL)
COMMAND = re.compile(r'^(?:(?:python |tools/)(?:.*\\\n)*.*\n?)+', re.MULTILINE)
NAME = re.compile(r'(?<!<pre>)<code>([^<\n]{1,32})</code>')
TEXT = re.compile(r'(?<=>)[^<]+')
HYPHENED = re.compile(r'[^\s<>]*-[^\s<>]*')
UNIT = re.compile(r'(?<=\d) (?=(?:bits?|[GMk]B?|ms|mJ|px|%)(?![\w]))')


def on_config(config):
    """Leave out pages that are missing, and put pages without a place at the end."""
    folder = Path(config['docs_dir'])
    named = set()

    def there(entries):
        kept = []
        for entry in entries:
            if isinstance(entry, dict):
                ((title, inner),) = entry.items()
                pages = there(inner if isinstance(inner, list) else [inner])
                kept += [{title: pages if isinstance(inner, list) else inner}] if pages else []
            else:
                named.add(entry)
                kept += [entry] if (folder / entry).is_file() else []
        return kept

    if (folder / 'glossary.md').is_file():
        words = glossary((folder / 'glossary.md').read_text(encoding='utf-8'))
        config.setdefault('mdx_configs', {}).setdefault('abbr', {})['glossary'] = words
    config['nav'] = there(config['nav'])
    others = sorted(str(path.relative_to(folder)) for path in folder.rglob('*.md'))
    if left := [page for page in others if page not in named]:
        config['nav'].append({'More': left})
    return config


def glossary(text):
    """Return what each word of the glossary's tables means, by each of its forms, as plain text."""
    rows = re.findall(r'^\| ([^|]+) \| ([^|]+) \|$', text, re.MULTILINE)
    plain = {words: re.sub('`', '', meaning) for words, meaning in rows if words != 'word'}
    return {form: meaning for words, meaning in plain.items() for form in words.split(', ')}


def explained_once(html):
    """Return the page with each word explained where it is first met, outside of headings and code."""
    seen = set()

    def first(found):
        new = found[1] not in seen
        seen.add(found[1])
        return found[0] if new else found[2]

    parts = HEADING.split(html)
    for i, part in enumerate(parts):
        parts[i] = ABBR.sub(r'\2' if i % 2 else first, part)
    return ''.join(parts)


def config_page(name, source):
    """Return a config as a page: what it trains, its commands, data and expectation, and the file."""
    tree = ast.parse(source)
    says = ast.get_docstring(tree) or ''
    code = '\n'.join(source.splitlines()[tree.body[0].end_lineno if says else 0 :]).strip()
    what, _, rest = says.partition('\n\n')
    rest = COMMAND.sub(lambda found: f'\n```bash\n{found[0].strip()}\n```\n\n', rest or '')
    rest = re.sub(r'^(Data|Expect): ', r'\n**\1**: ', rest, flags=re.MULTILINE)
    return f'---\nsearch: {{exclude: true}}\n---\n\n# {name}\n\n{what}\n\n{rest}\n\n```python\n{code}\n```\n'


def on_files(files, config):
    """Add a page for each config that there is."""
    from mkdocs.structure.files import File

    root = Path(config['config_file_path']).parent
    for path in sorted((root / 'configs').glob('[!_]*/*.py')):
        page = path.relative_to(root).with_suffix('.md').as_posix()
        content = config_page(path.stem, path.read_text(encoding='utf-8'))
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown, page=None, files=None, **_):
    """Links to configs lead to their pages; those to the repository's other files keep their words."""
    if page is not None and page.file.src_uri in WIDE:
        page.meta['hide'] = ['toc']
    there = {file.src_uri for file in files or ()}

    def to_page(found):
        name = f'{found[1]}.md'
        return f']({name})' if name in there else found[0]

    markdown = BOX.sub(r'> [!\1] \2\n> ', markdown)
    return OUTSIDE.sub(r'\1', CONFIG.sub(to_page, markdown))


def unbroken(html):
    """Return the page with figures and short names that no line end tears apart: 1 x 4, 4 bits, max_spike_count."""
    parts = CODE.split(NAME.sub(r'<code class="whole">\1</code>', html))
    for i in range(1, len(parts), 2):
        if parts[i].startswith('<pre'):  # lines end at spaces, not within --cfg-options
            parts[i] = TEXT.sub(lambda text: HYPHENED.sub(r'<span class="word">\g<0></span>', text[0]), parts[i])
    for i in range(0, len(parts), 2):
        parts[i] = UNIT.sub('&nbsp;', re.sub(r'(?<=[\dT]) x (?=[\dD])', '&nbsp;x&nbsp;', parts[i]))
    return ''.join(parts)


def on_page_content(html, page=None, **_):
    """Docstrings say what a name is for Sphinx; the name alone is shown. Words are explained once a page."""
    if page is not None and page.file.src_uri in PLAIN:
        html = ABBR.sub(r'\2', html)
    return unbroken(explained_once(ROLES.sub('', html)))
