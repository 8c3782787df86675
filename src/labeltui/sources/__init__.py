"""Where samples come from.

A *source* gives the ids, labels and bytes of its samples::

    path given by a person
       |  open_source: the first kind that recognises it, or the one that was named
       v
    folder   an ImageFolder tree                         ids = paths below it
    table    CSV or TSV with path, label, split          ids = paths as written
    archive  zip or tar: WebDataset's shards, or trees    ids = names of members
    parquet  images in columns of Parquet files           ids = paths or rows
    huggingface  what save_to_disk wrote (Arrow)          ids = paths or rows
    torchvision  files of CIFAR and MNIST                 ids = SPLIT/ROW
    arrays   .npy, .npz: images or ready embeddings      ids = keys, paths or row numbers
       |
       v
    Source   ids, labels, splits, notes; read(i), image(i), describe()

Everything is matched by name, and names are bytes: a class or a file may have any name the file system
allows. What is assumed (a split level, a delimiter, files that are left out) is written into `Source.notes`
for printing. A sample that cannot be read stays in the source: it is marked when it is read, and stops
nothing.

`Images` is the light half: `open_images` finds one image from what `Source.describe` returned, without walking the
tree or parsing the table again. The terminal UI and the decoding worker processes use it.

A new kind is a class with the attributes of `Source`, an entry in `KINDS` that recognises and opens it, and
its `Images`. Importing this package loads neither torch nor a data-set library; a kind that needs one
imports it when it opens.
"""

from __future__ import annotations

from labeltui.sources.access import open_images
from labeltui.sources.arrays import to_bytes
from labeltui.sources.base import (
    INTEGER,
    Source,
    SourceOptions,
    check_labels,
    number_labels,
    order_classes,
)
from labeltui.sources.images import Images, ScannedImages, release_pages
from labeltui.sources.issues import NO_SCORE, Issues, read_issues
from labeltui.sources.kinds import KINDS, open_source, reopen_source
from labeltui.sources.names import read_class_names, read_classes
from labeltui.sources.probabilities import align_probabilities, check_agreement, check_probabilities
from labeltui.sources.shards import gather
from labeltui.sources.table import encode

__all__ = [
    "INTEGER",
    "KINDS",
    "NO_SCORE",
    "Images",
    "Issues",
    "ScannedImages",
    "Source",
    "SourceOptions",
    "align_probabilities",
    "check_agreement",
    "check_labels",
    "check_probabilities",
    "encode",
    "gather",
    "number_labels",
    "open_images",
    "open_source",
    "order_classes",
    "read_class_names",
    "read_classes",
    "read_issues",
    "release_pages",
    "reopen_source",
    "to_bytes",
]
