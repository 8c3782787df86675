"""A data set that `datasets.load_dataset` reads: Parquet files with the images, and a README that describes them.

Columns: ``image`` (struct of bytes and path), ``label`` (class_label: the corrected label; null where a sample has none
or is excluded), then those of the table. A split becomes a split; samples of none are in ``train`` where there are no
splits, else in ``unsplit``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeltui.errors import SourceError
from labeltui.export.corrections import COLUMNS, Corrections
from labeltui.export.images import stored
from labeltui.export.parquet import TYPES, fields

ROW_GROUP = 256
"""Samples of a row group; a reader decodes one at a time."""


def write(corrections: Corrections, directory: Path) -> int:
    """Write the data set.

    Parameters
    ----------
    corrections : Corrections
    directory : Path
        New.

    Returns
    -------
    int
        Samples whose image could not be read; their image is null.
    """
    import pyarrow as pa

    schema = pa.schema(
        [
            pa.field("image", pa.struct({"bytes": pa.binary(), "path": pa.string()})),
            pa.field("label", pa.int64()),
            *fields(),
        ],
        {"huggingface": json.dumps({"info": {"features": _features(corrections.class_names)}})},
    )
    (directory / "data").mkdir()
    lost, splits = 0, []
    for name, samples in _splits(corrections):
        file = directory / "data" / f"{name}-00000-of-00001.parquet"
        missing, size = _write_split(corrections, samples, file, schema)
        lost += missing
        splits.append((name, len(samples), size, file.stat().st_size))
    (directory / "README.md").write_text(_readme(corrections, splits), encoding="utf-8")
    return lost


def _write_split(
    corrections: Corrections, samples: NDArray[np.int64], file: Path, schema: Any
) -> tuple[int, int]:
    """Write one split; return the number of images that could not be read, and the size in memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    lost = size = 0
    labels = corrections.training_labels
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for start in range(0, len(samples), ROW_GROUP):
            block = samples[start : start + ROW_GROUP]
            columns = corrections.columns(block)
            images: list[dict[str, Any] | None] = []
            for i, path in zip(block.tolist(), columns["path"], strict=True):
                try:
                    images.append({"bytes": stored(corrections.audit, i)[0], "path": path})
                except SourceError:
                    images.append(None)
                    lost += 1
            columns["image"] = images
            columns["label"] = [label if label >= 0 else None for label in labels[block].tolist()]
            table = pa.table(columns, schema)
            size += table.nbytes
            writer.write_table(table)
    return lost, size


def _splits(corrections: Corrections) -> list[tuple[str, NDArray[np.int64]]]:
    """The splits as they may be named, with their samples."""
    audit, samples = corrections.audit, corrections.samples
    split = audit.splits[samples]
    if not audit.split_names or (split < 0).all():
        return [("train", samples)]
    found: list[tuple[str, NDArray[np.int64]]] = []
    for number, name in enumerate([*audit.split_names, "unsplit"]):
        members = samples[split == (number if number < len(audit.split_names) else -1)]
        name = re.sub(r"\W", "_", name, flags=re.ASCII) or "split"
        if len(members):
            taken = {each for each, _ in found}
            found.append((f"{name}_{number}" if name in taken else name, members))
    return found


def _features(names: list[str]) -> dict[str, Any]:
    """The features as the library stores them in a Parquet file's metadata."""
    types = {"bool": "bool", "float": "float32"}
    return {
        "image": {"_type": "Image"},
        "label": {"names": names, "_type": "ClassLabel"},
        **{name: {"dtype": types.get(TYPES.get(name, ""), "string"), "_type": "Value"} for name in COLUMNS},
    }


def _readme(corrections: Corrections, splits: list[tuple[str, int, int, int]]) -> str:
    types = {"bool": "bool", "float": "float32"}
    lines = ["---", "dataset_info:", "  features:", "  - name: image", "    dtype: image"]
    lines += ["  - name: label", "    dtype:", "      class_label:", "        names:"]
    lines += [f"          '{number}': {quoted(name)}" for number, name in enumerate(corrections.class_names)]
    for name in COLUMNS:
        lines += [f"  - name: {name}", f"    dtype: {types.get(TYPES.get(name, ''), 'string')}"]
    lines.append("  splits:")
    for name, rows, size, _ in splits:
        lines += [f"  - name: {name}", f"    num_bytes: {size}", f"    num_examples: {rows}"]
    lines += [f"  download_size: {sum(each[3] for each in splits)}"]
    lines += [f"  dataset_size: {sum(each[2] for each in splits)}"]
    lines += ["configs:", "- config_name: default", "  data_files:"]
    for name, *_ in splits:
        lines += [f"  - split: {name}", f"    path: data/{name}-*"]
    return "\n".join(
        [
            *lines,
            "---",
            "",
            "# Labels reviewed with labeltui",
            "",
            "`label` is the corrected label; it is null for samples that have none or that are excluded because they",
            "belong to no class. `given_label` is the label before the review, `decision`, `reviewer` and",
            "`decided_at` say how it came about, and `label_score` is the estimated probability that the given label",
            "is right.",
            "",
        ]
    )


def quoted(text: str) -> str:
    """Return text as a YAML scalar in double quotes."""
    written = json.dumps(text, ensure_ascii=False)
    # What JSON leaves as it is and YAML does not allow, or takes for a line break.
    return re.sub(
        "[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", lambda found: f"\\u{ord(found[0]):04x}", written
    )
