"""Text, tables and the frame of the page."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from labeltui.text import safe

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --faint: #57606a; --paper: #fff; --line: #d0d7de; --soft: #f3f5f7;
  --main: #0b5cad; --warn: #9a3412; --grid: #e4e8ec; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --faint: #9aa5b1; --paper: #0d1117; --line: #30363d;
  --soft: #161b22; --main: #6cb2ff; --warn: #ffa657; --grid: #21262d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 60rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; overflow-wrap: anywhere; } h2 { font-size: 1.25rem; margin: 2.2rem 0 .5rem; }
p { max-width: 44rem; } .faint, caption, figcaption { color: var(--faint); }
a { color: var(--main); } nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; padding: 0; list-style: none; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .6rem 0; }
caption { text-align: left; padding: .2rem 0; } th, td { padding: .22rem .7rem .22rem 0; text-align: left;
  border-bottom: 1px solid var(--line); vertical-align: top; } td.n, th.n { text-align: right; }
figure { margin: .8rem 0; break-inside: avoid; } svg { max-width: 100%; height: auto; display: block; }
svg text { fill: var(--faint); font: 12px system-ui, sans-serif; }
svg .grid { stroke: var(--grid); } svg .axis { stroke: var(--line); } svg .bar { fill: var(--main); }
svg .line { fill: none; stroke: var(--main); stroke-width: 2; }
svg .dash { stroke: var(--faint); stroke-dasharray: 4 4; }
svg .flag { fill: none; stroke: var(--ink); stroke-width: 1.6; }
.images { display: flex; flex-wrap: wrap; gap: .8rem; padding: 0; list-style: none; }
.images li { width: 8.5rem; font-size: .85rem; overflow-wrap: anywhere; break-inside: avoid; }
.images img { width: 8rem; height: 8rem; object-fit: contain; background: var(--soft); display: block;
  image-rendering: auto; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem .9rem; padding: 0; list-style: none; font-size: .85rem; }
.legend span { display: inline-block; width: .7rem; height: .7rem; margin-right: .35rem; }
.bar-cell { width: 10rem; min-width: 4rem; } .bar-cell div { background: var(--main); height: .7rem; }
@media print { body { max-width: none; padding: 0; font-size: 10.5pt; } nav { display: none; }
  h2 { break-after: avoid; } }
"""

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def esc(value: object) -> str:
    """Return untrusted text for HTML: printable, on one line, without markup."""
    return html.escape(safe(value if isinstance(value, str | bytes) else str(value)))


def paragraph(*sentences: str, faint: bool = False) -> str:
    """Return sentences, which are HTML already, as a paragraph."""
    text = " ".join(each for each in sentences if each)
    return f'<p class="faint">{text}</p>' if faint else f"<p>{text}</p>"


def table(
    caption: str, heads: Sequence[str], rows: Iterable[Sequence[object]], numbers: Sequence[int] = ()
) -> str:
    """Return a table.

    Parameters
    ----------
    caption : str
    heads : sequence of str
    rows : iterable of sequences
        Text is escaped; the first cell of a row is its heading.
    numbers : sequence of int
        Columns of numbers, which are aligned to the right.

    Returns
    -------
    str
    """

    def mark(column: int) -> str:
        return ' class="n"' if column in numbers else ""

    top = "".join(f'<th scope="col"{mark(at)}>{esc(head)}</th>' for at, head in enumerate(heads))
    lines = []
    for row in rows:
        first, *rest = row
        cells = "".join(f"<td{mark(at)}>{esc(value)}</td>" for at, value in enumerate(rest, 1))
        lines.append(f'<tr><th scope="row">{esc(first)}</th>{cells}</tr>')
    body = "\n".join(lines)
    return (
        f'<div class="wide"><table><caption>{esc(caption)}</caption><thead><tr>{top}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def figure(svg: str, caption: str) -> str:
    """Return a figure with its caption."""
    return f"<figure>{svg}<figcaption>{esc(caption)}</figcaption></figure>"


def page(title: str, lead: str, sections: Sequence[tuple[str, str]], foot: str) -> str:
    """Return the whole document.

    Parameters
    ----------
    title : str
    lead : str
        HTML below the title.
    sections : sequence of (heading, HTML)
    foot : str
        HTML.

    Returns
    -------
    str
    """
    links = "".join(f'<li><a href="#s{at}">{esc(name)}</a></li>' for at, (name, _) in enumerate(sections))
    body = "\n".join(
        f'<section aria-labelledby="s{at}"><h2 id="s{at}">{esc(name)}</h2>\n{content}</section>'
        for at, (name, content) in enumerate(sections)
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{esc(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<header><h1>{esc(title)}</h1>\n{lead}"
        f'\n</header>\n<nav aria-label="Sections"><ul>{links}</ul></nav>\n<main>\n{body}\n</main>\n'
        f'<footer><p class="faint">{foot}</p></footer>\n</body>\n</html>\n'
    )
