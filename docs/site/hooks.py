"""What the site needs beyond MkDocs: a navigation of the pages that are there, and roles of docstrings as code."""

from __future__ import annotations

import re
from pathlib import Path

OUTSIDE = re.compile(r'\[([^\]]+)\]\(\.\./\.\./[^)]+\)')
ROLES = re.compile(r':(?:class|func|meth|mod|attr|data|exc):(?=<code>)')


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

    config['nav'] = there(config['nav'])
    others = sorted(str(path.relative_to(folder)) for path in folder.rglob('*.md'))
    if left := [page for page in others if page not in named]:
        config['nav'].append({'More': left})
    return config


def on_page_markdown(markdown, **_):
    """Links to the repository's other files keep their words."""
    return OUTSIDE.sub(r'\1', markdown)


def on_page_content(html, **_):
    """Docstrings say what a name is for Sphinx; the name alone is shown."""
    return ROLES.sub('', html)
