"""The table of `labeltui.export.corrections` as typed Parquet, with cleanlab's names of columns."""

from __future__ import annotations

from typing import Any, BinaryIO

from labeltui.export.corrections import COLUMNS, Corrections

TYPES = {"exclude": "bool", "is_label_issue": "bool", "label_score": "float"}
"""Types of the columns that are no text, as pyarrow names them."""


def fields() -> list[Any]:
    """Return the fields of the table, for a pyarrow schema."""
    import pyarrow as pa

    return [pa.field(name, pa.type_for_alias(TYPES.get(name, "string"))) for name in COLUMNS]


def write(corrections: Corrections, file: BinaryIO) -> int:
    """Write the table.

    Parameters
    ----------
    corrections : Corrections
    file : BinaryIO

    Returns
    -------
    int
        Rows whose image is no longer the scan's; 0 where that was not asked for.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, n_lost = pa.schema(fields()), 0
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for block in corrections.blocks():
            lost = corrections.lost(block)
            n_lost += len(lost)
            writer.write_table(pa.table(corrections.columns(block, lost), schema))
    return n_lost
