"""Opens every page of the built site in a browser, takes pictures of it, and lists what does not fit.

    make docs
    python docs/check_site.py --out build/site_check

looks at each page from the disk at 1280 and at 500 px, light and dark. It lists what is wider than the window, code
that does not wrap, tables that have to be scrolled on a laptop, names and figures that are torn apart, and missing
pictures; and it looks for a word in the search. Exit status: 0 nothing found, 1 something, 2 no site. It needs
Chromium and ``pip install playwright``; without one of them it says so and leaves with 0.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable')
LAPTOP, PHONE = 1280, 500
HEIGHT = 900
# Runs in the page. Tables may be scrolled sideways on a phone, and nowhere else.
FAULTS = r"""
(laptop) => {
  const faults = [], edge = document.documentElement.clientWidth + 1;
  const name = (e) => `${e.tagName.toLowerCase()} "${(e.textContent || e.alt || '').trim().slice(0, 60)}"`;
  const scrolled = (e) => e.closest('.md-typeset__scrollwrap, .md-sidebar, .md-search, .md-header, .md-tabs');
  if (document.documentElement.scrollWidth > edge) faults.push('the page is wider than the window');
  for (const e of document.querySelectorAll('.md-content *')) {
    const box = e.getBoundingClientRect();
    if (!box.width || !box.height || e.closest('.md-clipboard, .md-tooltip, .headerlink, mjx-container')) continue;
    if (box.right > edge && !scrolled(e)) faults.push('beyond the window: ' + name(e));
  }
  for (const e of document.querySelectorAll('.md-content pre > code'))
    if (e.scrollWidth > e.clientWidth + 1) faults.push('code is cut: ' + name(e));
  for (const e of document.querySelectorAll('.md-content .md-typeset__scrollwrap'))
    if (laptop && e.scrollWidth > e.clientWidth + 1) faults.push('table is cut: ' + name(e));
  const lines = (e) => { const r = document.createRange(); r.selectNodeContents(e);
    return new Set([...r.getClientRects()].map((b) => Math.round(b.top / 6))).size; };
  for (const e of document.querySelectorAll('.md-content code.whole, .md-content td > a > code'))
    if (lines(e) > 1) faults.push('name is torn apart: ' + name(e));
  for (const e of document.querySelectorAll('.md-content td'))
    if (/^\d+\s?x\s?\d+$/.test(e.textContent.trim()) && lines(e) > 1) faults.push('figure is torn apart: ' + name(e));
  for (const e of document.querySelectorAll('.md-content img'))
    if (e.complete && !e.naturalWidth) faults.push('picture is missing: ' + e.getAttribute('src'));
  return [...new Set(faults)];
}
"""


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--site', type=Path, default=ROOT / 'build/docs', help='the built site (default: build/docs)')
    parser.add_argument('--out', type=Path, help='folder for the pictures (default: none are taken)')
    parser.add_argument('--pages', nargs='*', default=[], help='names of pages, such as concepts (default: all)')
    parser.add_argument('--browser', default=None, help='the program (default: chromium, wherever it is found)')
    return parser.parse_args(argv)


def chosen(site: Path, names: Sequence[str]) -> list[Path]:
    """Return the pages to look at: those named, or all."""
    found = sorted(path for path in site.rglob('*.html') if path.name != '404.html')
    return [path for path in found if path.stem in names] if names else found


def faults_of(windows: dict[str, Any], path: Path, out: Path | None) -> Iterator[str]:
    """Yield what does not fit on a page, by width, and take its pictures."""
    for scheme, page in windows.items():
        page.set_viewport_size(dict(width=LAPTOP, height=HEIGHT))
        page.goto(path.as_uri())
        for width in (LAPTOP, PHONE):
            page.set_viewport_size(dict(width=width, height=HEIGHT))
            if scheme == 'light':  # colours change no sizes
                yield from (f'{width} px: {fault}' for fault in page.evaluate(FAULTS, width == LAPTOP))
            if out:
                page.screenshot(path=str(out / f'{path.stem}_{width}_{scheme}.png'), full_page=True)


def search_fault(page: Any, site: Path, out: Path | None, word: str = 'firing') -> str | None:
    """Return what is wrong with the search from the disk."""
    page.set_viewport_size(dict(width=LAPTOP, height=HEIGHT))
    page.goto((site / 'index.html').as_uri())
    field = page.locator('.md-search__input')
    if not field.is_visible():
        return 'there is no search'
    field.click()
    field.type(word)
    try:
        page.wait_for_selector('.md-search-result__item', timeout=15_000)
    except Exception:  # the library's own timeout
        return f'the search finds no page with "{word}"'
    if out:
        page.wait_for_timeout(300)
        page.screenshot(path=str(out / 'search.png'))
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Look at all pages; list faults."""
    args = parse_args(argv)
    if not (args.site / 'index.html').is_file():
        print(f'check_site.py: error: {args.site} holds no index.html: make docs writes the site', file=sys.stderr)
        return 2
    browser = args.browser or next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        browser = None
    if browser is None:
        print('not checked: this needs Chromium and playwright (pip install playwright)')
        return 0
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
    pages, count = chosen(args.site.resolve(), args.pages), 0
    sandbox = ['--no-sandbox'] if hasattr(os, 'geteuid') and os.geteuid() == 0 else []
    with sync_playwright() as play:
        window = play.chromium.launch(executable_path=browser, args=sandbox)
        schemes = ('light', 'dark') if args.out else ('light',)
        windows = {scheme: window.new_page(color_scheme=scheme) for scheme in schemes}
        outside = []
        for page in windows.values():
            page.on('request', lambda request: request.url.startswith('http') and outside.append(request.url))
        for path in pages:
            for fault in faults_of(windows, path, args.out):
                print(f'{path.relative_to(args.site.resolve())}: {fault}')
                count += 1
        if fault := search_fault(windows['light'], args.site.resolve(), args.out):
            print(fault)
            count += 1
        for url in sorted(set(outside)):
            print(f'loaded from elsewhere: {url}')
            count += 1
        window.close()
    print(f'{len(pages)} pages at {LAPTOP} and {PHONE} px: {count or "no"} faults')
    return 1 if count else 0


if __name__ == '__main__':
    sys.exit(main())
