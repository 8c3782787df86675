"""The files of an audit: how they are laid out, written at once or not at all, and read without being loaded.

::

    my.audit/
      audit.h5         the arrays of the scan (generation 0); complete or absent, never changed afterwards
      scan.json        when, where and how long the scan ran
      derived/<n>.h5   generation n: everything computed later; same paths, shadowing those of the scan
      journal.db       the decisions (see `labeltui.journal`)
      runs/<id>/       training jobs; a finished one leaves result.h5, which `Store.adopt` makes a generation
      scan.partial/    only while a scan is unfinished

HDF5 is fast and not safe against a crash while it is being written. So a file is written under a temporary
name beside its final one, flushed to the disk, renamed, and never touched again. Every dataset is contiguous
and starts at a multiple of 64 bytes, so that a reader maps it into memory and opening an audit of a million
samples reads a few pages.

`labeltui.store.atomic` has the one-step writing, `labeltui.store.h5` the HDF5 files, and
`labeltui.store.layout` what an audit holds; everything public is named here.
"""

from __future__ import annotations

from labeltui.store.atomic import replacing, sha256, sweep, sync_directory, sync_file, write_json
from labeltui.store.h5 import FROM_CONTENT, H5, Attribute, Blocks, Names, pack_matrix, pack_names, write_h5
from labeltui.store.layout import (
    FORMAT,
    Store,
    audit_attrs,
    generation_attrs,
)

__all__ = [
    "FORMAT",
    "FROM_CONTENT",
    "H5",
    "Attribute",
    "Blocks",
    "Names",
    "Store",
    "audit_attrs",
    "generation_attrs",
    "pack_matrix",
    "pack_names",
    "replacing",
    "sha256",
    "sweep",
    "sync_directory",
    "sync_file",
    "write_h5",
    "write_json",
]
