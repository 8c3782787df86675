"""The files of an audit: how they are laid out, written at once or not at all, and read without being loaded.

::

    my.audit/
      audit.h5         the arrays of the scan (generation 0); complete or absent, never changed afterwards
      scan.json        when, where and how long the scan ran
      derived/<n>.h5   generation n: everything computed later; same paths, shadowing those of the scan
      journal.db       the decisions (see `labeltui.journal`)
      runs/<id>/       training jobs; a finished one leaves result.h5, which `Store.adopt` makes a generation
      scan.partial/    only while a scan is unfinished

`labeltui.io` writes and reads the files; `labeltui.store.layout` knows what an audit holds.
"""

from __future__ import annotations

from labeltui.store.layout import (
    FORMAT,
    Store,
    audit_attrs,
    generation_attrs,
)

__all__ = ["FORMAT", "Store", "audit_attrs", "generation_attrs"]
