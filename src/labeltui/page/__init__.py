"""The report of an audit as one page: self-contained HTML without scripts, for whoever has no terminal.

::

    Audit --sections--> headings, sentences, tables, figures --document--> one file

`sections` says what is told, `figures` draws it as SVG (hover texts are ``<title>``, which need no script), `html`
escapes text and wraps the page. All text from data is escaped; the page loads nothing and runs nothing (its content
security policy forbids both). The same audit gives the same bytes.
"""

from __future__ import annotations

from labeltui.page.sections import document, write

__all__ = ["document", "write"]
