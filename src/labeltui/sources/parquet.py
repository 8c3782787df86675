"""Parquet files with images, and Hugging Face's data sets as `save_to_disk` leaves them (Arrow files)."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labeltui.errors import SourceError, UsageError
from labeltui.io.files import read_json
from labeltui.parallel import count_threads
from labeltui.sources.base import Samples, SourceOptions, check_labels, listed
from labeltui.sources.images import Images, is_below
from labeltui.sources.parquet_index import save_index
from labeltui.sources.probabilities import read_probabilities
from labeltui.sources.rows import ArrowImages, ParquetImages, parquet_file, read_arrow
from labeltui.text import safe, unescape

SUFFIX, ARROW = ".parquet", ".arrow"
SLOW = 16_000_000  # bytes that a preview reads, above which it takes long
SPLIT = re.compile(r"(?P<split>\w+(\.\w+)*)-\d+-of-\d+\.parquet")  # as the library names its files


@dataclass(eq=False)
class Parquet(Samples):
    """Rows of Parquet or Arrow files, with an image each; made by `open_parquet` and `open_saved`."""

    kind: str = "parquet"
    description: dict[str, Any] = field(default_factory=dict)

    def describe(self) -> dict[str, object]:
        return {**self.description, "levels": self.levels}

    def images(self) -> Images:
        kind = ArrowImages if self.description["image_store"] == "arrow" else ParquetImages
        return kind.opened(self.describe(), self.root)


def parquet_files(path: Path) -> list[Path]:
    """Return the Parquet files of a path: itself, or those in the directory or in its ``data``, by name.

    A directory with others beside ``data`` is a tree of classes, whatever tables lie in it.
    """
    if path.is_dir():
        if any(each.is_dir() and each.name != "data" for each in path.iterdir() if each.name[:1] != "."):
            return []
        return sorted(path.glob(f"*{SUFFIX}")) or sorted((path / "data").glob(f"*{SUFFIX}"))
    return [path] if path.suffix.lower() == SUFFIX else []


def saved_files(path: Path) -> list[tuple[Path, str]]:
    """Return the Arrow files of a data set saved with `save_to_disk`, and the split of each; none of anything else.

    Parameters
    ----------
    path : Path
    """
    if not path.is_dir():
        return []
    try:
        if (path / "dataset_dict.json").is_file():
            splits = [str(each) for each in read_json(path / "dataset_dict.json")["splits"]]
        elif (path / "state.json").is_file() and (path / "dataset_info.json").is_file():
            splits = [""]
        else:
            return []
        found = []
        for split in splits:
            state = read_json(path / split / "state.json")
            names = [str(each["filename"]) for each in state["_data_files"]]
            found += [(path / split / name, split) for name in names]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    plain = all(
        is_below(split) and is_below(file.name) and file.parent == path / split for file, split in found
    )
    return found if plain else []


def open_saved(path: Path, options: SourceOptions) -> Parquet:
    """Read a data set that Hugging Face's library saved with `save_to_disk`.

    Parameters
    ----------
    path : Path
        The directory.
    options : SourceOptions

    Returns
    -------
    Parquet

    Raises
    ------
    SourceError, UsageError
        As `open_parquet`.
    """
    return _open(path, saved_files(path), options, "huggingface", "arrow")


def open_parquet(path: Path, options: SourceOptions, files: Sequence[Path] | None = None) -> Parquet:
    """Read a data set of Parquet files.

    `options.image_column` holds the images: structs with bytes, or bytes; by default ``image``, or the only such
    column. `options.label_column` holds the labels: text, or numbers that are class_label's names where the file's
    metadata has such. Ids are `options.path_column` where the column is there and names each row once, else the
    images' paths, else file and row.

    Parameters
    ----------
    path : Path
        A file, or a directory of files; ``<split>-00000-of-00001.parquet`` names the split.
    options : SourceOptions
    files : sequence of Path, optional
        The files below `path`, where they are known.

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
    found = []
    for file in parquet_files(path) if files is None else files:
        matched = SPLIT.fullmatch(file.name)
        found.append((file, matched["split"] if matched else ""))
    return _open(path, found, options, "parquet", "parquet")


def _open(
    path: Path, found: Sequence[tuple[Path, str]], options: SourceOptions, kind: str, store: str
) -> Parquet:
    if importlib.util.find_spec("pyarrow") is None:
        raise UsageError(
            "Parquet and Arrow files are read by pyarrow",
            "it is not installed",
            "pip install 'labeltui[parquet]'",
        )
    root = path.parent if path.suffix.lower() == SUFFIX and not path.is_dir() else path
    rows: list[int] = []
    labels: list[bytes | None] = []
    splits: list[str] = []
    paths: list[str | None] = []
    image_paths: list[str | None] = []
    column = options.image_column or ""
    for file, split in found:
        table, column, values = _read(file, options, column)
        rows.append(table.num_rows)
        labels += values
        splits += [split] * table.num_rows
        paths += _texts(table, options.path_column, table.num_rows)
        image_paths += _texts(table, "path of the image", table.num_rows)
    if store == "parquet":
        slow = _save_indexes([file for file, _ in found], column)
    names = [str(file.relative_to(root)) for file, _ in found]
    ids = _ids(
        paths,
        image_paths,
        [f"{name}/{row}" for name, n in zip(names, rows, strict=True) for row in range(n)],
    )
    notes = check_labels(labels, safe(path.name))
    if store == "parquet" and slow > SLOW:
        notes.append(
            f"a preview reads up to {slow / 1e6:,.0f} MB, since many images are compressed or stored together: write "
            "Parquet with row_group_size=100, or tar, for quick ones"
        )
    if any(splits):
        notes.insert(0, f"splits from the names of files: {listed(sorted(set(splits)))}")
    description: dict[str, Any] = {
        "kind": kind,
        "image_store": store,
        "files": names,
        "rows": rows,
        "column": column,
        "path_column": options.path_column,
        "label_column": options.label_column,
        "image_column": options.image_column,
    }
    if root != path:
        description["file"] = path.name
    source = Parquet(
        root=root,
        ids=ids,
        labels=labels,
        splits=splits if any(splits) else None,
        notes=notes,
        kind=kind,
        description=description,
    )
    source.find_levels()
    if options.pred_probs is not None:
        probabilities = read_probabilities(options.pred_probs, options, ids, notes)
        source.pred_probs, source.pred_probs_classes = probabilities
    return source


def _save_indexes(found: Sequence[Path], column: str) -> int:
    """Index the images of files; returns how many bytes a preview reads at most."""
    import pyarrow as pa

    def save(path: Path) -> int:
        with suppress(OSError, pa.ArrowException, ValueError), parquet_file(path) as file:
            return save_index(path, file, column)
        return 0  # who reads it will be told why

    with ThreadPoolExecutor(count_threads()) as pool:
        return max(pool.map(save, found), default=0)


def _read(file: Path, options: SourceOptions, expected: str) -> tuple[Any, str, list[bytes | None]]:
    """Read everything but the images' bytes: a table with the columns needed, the image column, and labels."""
    import pyarrow as pa

    name = safe(file.name)
    try:
        arrow = read_arrow(file) if file.suffix == ARROW else None
        manager: Any = parquet_file(file) if arrow is None else nullcontext()
        with manager as opened:
            schema = opened.schema_arrow if arrow is None else arrow.schema
            column = _image_column(schema, expected, name)
            if options.label_column not in schema.names:
                raise SourceError(
                    f"{name} must have a column {safe(options.label_column)}",
                    f"its columns are {listed(schema.names)}",
                    "name the column with --label-column",
                )
            wanted = [options.label_column, *({options.path_column} & set(schema.names))]
            struct = pa.types.is_struct(schema.field(column).type)
            if arrow is None:
                table = opened.read(columns=[*wanted, *([f"{column}.path"] if struct else [])])
            else:
                table = arrow.select([*wanted, *([column] if struct else [])])
            table.validate(full=True)  # offsets that point out of it, text that is not UTF-8
        if struct and column in table.column_names:
            table = _with_paths(table, column)
    # Damaged files make pyarrow raise errors of many types.
    except (OSError, pa.ArrowException, ValueError, TypeError, KeyError) as error:
        raise SourceError(
            "a data set of tables must be readable", f"{name}: {safe(str(error), 200)}", "check the file"
        ) from None
    names = _class_names(schema.metadata or {}, options.label_column)
    values = table.column(options.label_column).to_pylist()
    return table, column, [_label(value, names, name) for value in values]


def _with_paths(table: Any, column: str) -> Any:
    """Add the paths in the structs of the images, where they have any, as a column."""
    import pyarrow as pa

    kind = table.schema.field(column).type
    if kind.get_field_index("path") < 0:
        return table
    inside = pa.chunked_array(
        [chunk.field("path") for chunk in table.column(column).chunks], kind.field("path").type
    )
    return table.append_column("path of the image", inside)


def _image_column(schema: Any, expected: str, name: str) -> str:
    import pyarrow as pa

    holding = [
        each.name
        for each in schema
        if pa.types.is_binary(each.type)
        or pa.types.is_large_binary(each.type)
        or (pa.types.is_struct(each.type) and each.type.get_field_index("bytes") >= 0)
    ]
    column = expected or ("image" if "image" in holding else holding[0] if len(holding) == 1 else "")
    if column not in holding:
        raise SourceError(
            f"{name} must have a column {safe(column or 'image')} of bytes, or of structs with bytes",
            f"its columns are {listed(schema.names)}",
            "name the column with --image-column",
        )
    return column


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
