"""Parquet files with images, as Hugging Face's data sets store them."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labeltui.errors import SourceError, UsageError
from labeltui.io.files import require_regular
from labeltui.sources.base import Samples, SourceOptions, check_labels, listed
from labeltui.sources.images import Images
from labeltui.sources.rows import ParquetImages
from labeltui.text import safe, unescape

SUFFIX = ".parquet"
SPLIT = re.compile(r"(?P<split>\w+(\.\w+)*)-\d+-of-\d+\.parquet")  # as the library names its files


@dataclass(eq=False)
class Parquet(Samples):
    """Rows of Parquet files, with an image each; made by `open_parquet`."""

    kind: str = "parquet"
    description: dict[str, Any] = field(default_factory=dict)

    def describe(self) -> dict[str, object]:
        return {**self.description, "levels": self.levels}

    def images(self) -> Images:
        return ParquetImages.opened(self.describe(), self.root)


def parquet_files(path: Path) -> list[Path]:
    """Return the Parquet files of a path: itself, or those in the directory or in its ``data``, by name.

    A directory with others beside ``data`` is a tree of classes, whatever tables lie in it.
    """
    if path.is_dir():
        if any(each.is_dir() and each.name != "data" for each in path.iterdir() if each.name[:1] != "."):
            return []
        return sorted(path.glob(f"*{SUFFIX}")) or sorted((path / "data").glob(f"*{SUFFIX}"))
    return [path] if path.suffix.lower() == SUFFIX else []


def open_parquet(path: Path, options: SourceOptions) -> Parquet:
    """Read a data set of Parquet files.

    The column ``image`` (or the only one of structs with bytes) holds the images, `options.label_column` the labels:
    text, or numbers that are class_label's names where the file's metadata has such. Ids are `options.path_column`
    where the column is there and names each row once, else the images' paths, else file and row.

    Parameters
    ----------
    path : Path
        A file, or a directory of files; ``<split>-00000-of-00001.parquet`` names the split.
    options : SourceOptions

    Returns
    -------
    Parquet

    Raises
    ------
    SourceError
        The files cannot be read, or lack images or labels.
    UsageError
        pyarrow is not installed.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise UsageError(
            "Parquet files are read by pyarrow", "it is not installed", "pip install 'labeltui[parquet]'"
        )
    found = parquet_files(path)
    root = path if path.is_dir() else path.parent
    rows: list[int] = []
    labels: list[bytes | None] = []
    splits: list[str] = []
    paths: list[str | None] = []
    image_paths: list[str | None] = []
    column = ""
    for file in found:
        table, column, values = _read(file, options, column)
        rows.append(table.num_rows)
        labels += values
        matched = SPLIT.fullmatch(file.name)
        splits += [matched["split"] if matched else ""] * table.num_rows
        paths += _texts(table, options.path_column, table.num_rows)
        image_paths += _texts(table, "path of the image", table.num_rows)
    ids = _ids(
        paths,
        image_paths,
        [f"{file.name}/{row}" for file, n in zip(found, rows, strict=True) for row in range(n)],
    )
    notes = check_labels(labels, safe(path.name))
    if any(splits):
        notes.insert(0, f"splits from the names of files: {listed(sorted(set(splits)))}")
    description: dict[str, Any] = {
        "kind": "parquet",
        "image_store": "parquet",
        "files": [str(file.relative_to(root)) for file in found],
        "rows": rows,
        "column": column,
        "path_column": options.path_column,
        "label_column": options.label_column,
    }
    if not path.is_dir():
        description["file"] = path.name
    source = Parquet(
        root=root,
        ids=ids,
        labels=labels,
        splits=splits if any(splits) else None,
        notes=notes,
        description=description,
    )
    source.find_levels()
    return source


def _read(file: Path, options: SourceOptions, expected: str) -> tuple[Any, str, list[bytes | None]]:
    """Read everything but the images' bytes: a table with the columns needed, the image column, and labels."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = safe(file.name)
    try:
        require_regular(file)
        with pq.ParquetFile(file) as opened:
            schema = opened.schema_arrow
            structs = [
                each.name
                for each in schema
                if pa.types.is_struct(each.type) and each.type.get_field_index("bytes") >= 0
            ]
            column = expected or ("image" if "image" in structs else structs[0] if len(structs) == 1 else "")
            if column not in structs:
                raise SourceError(
                    f"{name} must have a column image of structs with bytes",
                    f"its columns are {listed(schema.names)}",
                    "save it with datasets.Dataset.to_parquet",
                )
            if options.label_column not in schema.names:
                raise SourceError(
                    f"{name} must have a column {safe(options.label_column)}",
                    f"its columns are {listed(schema.names)}",
                    "name the column with --label-column",
                )
            wanted = [options.label_column, *({options.path_column} & set(schema.names))]
            table = opened.read(columns=[*wanted, f"{column}.path"])
    except (OSError, pa.ArrowInvalid) as error:
        raise SourceError(
            "a data set of Parquet must be readable", f"{name}: {safe(str(error), 200)}", "check the file"
        ) from None
    if column in table.column_names and table.schema.field(column).type.get_field_index("path") >= 0:
        inside = pa.chunked_array([chunk.field("path") for chunk in table.column(column).chunks], pa.string())
        table = table.append_column("path of the image", inside)
    names = _class_names(schema.metadata or {}, options.label_column)
    values = table.column(options.label_column).to_pylist()
    return table, column, [_label(value, names, name) for value in values]


def _class_names(metadata: Mapping[bytes, bytes], column: str) -> list[str]:
    """The names of class_label in the metadata that the library writes, or none."""
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][column]
        names = feature.get("names", [])
        return names if all(isinstance(name, str) for name in names) else []
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return []


def _label(value: Any, names: Sequence[str], file: str) -> bytes | None:
    if value is None or (value == -1 and names):
        return None
    if names:
        if not isinstance(value, int) or not 0 <= value < len(names):
            raise SourceError(
                f"the labels of {file} are numbers of its {len(names)} classes", f"got {safe(str(value), 60)}"
            )
        return unescape(names[value])
    if isinstance(value, str | int) and not isinstance(value, bool):
        return unescape(str(value)) or None
    raise SourceError(f"the labels of {file} are texts or whole numbers", f"got {safe(str(value), 60)}")


def _texts(table: Any, column: str, n: int) -> list[str | None]:
    if column not in table.column_names:
        return [None] * n
    return [value if isinstance(value, str) else None for value in table.column(column).to_pylist()]


def _ids(*candidates: Sequence[str | None]) -> list[bytes]:
    """The first list that names every sample, and no two alike."""
    for names in candidates:
        ids = [unescape(name) for name in names if name and "\0" not in name]
        if len(ids) == len(names) == len(set(ids)):
            return ids
    raise SourceError("samples have different names", "two rows are called alike")
