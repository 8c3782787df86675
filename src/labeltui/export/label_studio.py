"""Label Studio tasks: one image each, the suggestion as a prediction with its probability, the columns as data.

The labelling interface that the tasks are made for::

    <View>
      <Image name="image" value="$image"/>
      <Choices name="label" toName="image" choice="single"> <Choice value="cat"/> ... </Choices>
    </View>

Images are given as paths of Label Studio's local files, below its ``LOCAL_FILES_DOCUMENT_ROOT``, which is to be the
source's root; images that lie in arrays are written into the tasks. Annotations come back with ``labeltui import``.
"""

from __future__ import annotations

import base64
import json
from typing import Any, BinaryIO
from urllib.parse import quote

import numpy as np

import labeltui
from labeltui.audit import Audit
from labeltui.errors import SourceError
from labeltui.export.corrections import Corrections
from labeltui.export.images import stored

CONTROL, OBJECT = "label", "image"


def write(corrections: Corrections, file: BinaryIO) -> int:
    """Write the tasks as one JSON list.

    Parameters
    ----------
    corrections : Corrections
    file : BinaryIO

    Returns
    -------
    int
        Samples whose image could not be read; their task has an empty one.
    """
    audit, lost, comma = corrections.audit, 0, b"[\n"
    for block in corrections.blocks():
        columns = corrections.columns(block)
        for i, *row in zip(block.tolist(), *columns.values(), strict=True):
            url = _local(audit, i)
            if url is None:
                try:
                    data, extension = stored(audit, i)
                    url = f"data:image/{extension};base64,{base64.b64encode(data).decode()}"
                except SourceError:
                    lost += 1
            values = {name: value for name, value in zip(columns, row, strict=True) if value is not None}
            task = {
                "id": i + 1,
                "data": {"image": url or "", **values},
                "predictions": [
                    _prediction(corrections.class_names[label], score)
                    for label, score in audit.suggestions(i)[:1]
                ],
            }
            file.write(comma + json.dumps(task).encode())
            comma = b",\n"
    file.write(b"\n]\n" if comma == b",\n" else b"[]\n")
    return lost


def _local(audit: Audit, i: int) -> str | None:
    """The address of a sample's file, None where it has none of its own."""
    if audit.images.file(i) is None:
        return None
    return "/data/local-files/?d=" + quote(audit.sample_id(i))


def _prediction(label: str, score: float) -> dict[str, Any]:
    return {
        "model_version": f"labeltui {labeltui.__version__}",
        "score": float(np.float32(score)),
        "result": [
            {
                "from_name": CONTROL,
                "to_name": OBJECT,
                "type": "choices",
                "value": {"choices": [label]},
            }
        ],
    }
