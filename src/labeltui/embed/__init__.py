"""From images to embeddings: a backbone, its preprocessing, and a stream of finished blocks.

::

    Source --ids--> decoding processes --uint8 pixels in shared memory--> Embedder --float32 rows--> Block
                    (PIL, numpy)         units of one forward pass         (torch)

* `load_embedder` makes an `Embedder` from an `EmbedSpec`: any timm name,
  ``torchvision/NAME``, or ``pixels``, which needs no torch. `embedder_for` also covers sources that bring
  their own embeddings.
* `stream` decodes ahead and yields each `Block` of the given `batch_ranges` in order. A block is divided into units
  of the same shape whatever precedes it, so a resumed run repeats the same bytes on a CPU.

On a CPU each unit is one forward pass on one thread, with as many concurrent passes as threads: they share the
weights, never wait for one another, and their result does not depend on their number. On a GPU a unit is as large
as memory allows, and is halved when memory runs out.

Images are decoded in processes of their own: a file that crashes a decoder ends that process and marks one
sample. Neither this package nor those processes import torch; it is loaded by `load_embedder`.
"""

from __future__ import annotations

from labeltui.embed.devices import on_devices
from labeltui.embed.embedders import Embedder, GivenEmbedder, PixelEmbedder
from labeltui.embed.load import embedder_for, load_embedder
from labeltui.embed.spec import EmbedSpec, parse_model_args
from labeltui.embed.stream import Block, batch_ranges, stream
from labeltui.embed.transform import Transform
from labeltui.paths import NON_FINITE, OK, UNREADABLE, ZERO

__all__ = [
    "NON_FINITE",
    "OK",
    "UNREADABLE",
    "ZERO",
    "Block",
    "EmbedSpec",
    "Embedder",
    "GivenEmbedder",
    "PixelEmbedder",
    "Transform",
    "batch_ranges",
    "embedder_for",
    "load_embedder",
    "on_devices",
    "parse_model_args",
    "stream",
]
