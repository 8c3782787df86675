from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labeltui.io.names import Names
from labeltui.train.columns import read_column


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_label_table_is_read_with_the_delimiters_of_scan(tmp_path: Path, delimiter: str) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("path;label\na.png;cat\nb.png;dog\n".replace(";", delimiter))
    names = Names(np.frombuffer(b"a.pngb.png", np.uint8), np.array([0, 5, 10], np.int64))
    assert read_column(table, "label", names) == ["cat", "dog"]
