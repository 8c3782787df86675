"""Which samples are copies of each other, and where their labels disagree."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from labeltui import duplicates
from labeltui.errors import InputError


def hashes(*contents: str) -> np.ndarray:
    return np.array([list(hashlib.sha256(c.encode()).digest()) for c in contents], dtype=np.uint8)


def test_identical_rows_share_a_number_in_order_of_appearance() -> None:
    groups = duplicates.duplicate_groups(hashes("a", "b", "a", "c", "b", "a"))
    assert groups.tolist() == [0, 1, 0, 2, 1, 0]
    assert groups.dtype == np.int32


def test_samples_that_were_not_read_are_copies_of_nothing() -> None:
    rows = np.zeros((5, 32), np.uint8)
    ok = np.array([False, True, False, True, False])
    assert duplicates.duplicate_groups(rows, ok).tolist() == [0, 1, 2, 1, 3]


@pytest.mark.parametrize("width", [1, 3, 8, 130])
def test_embedding_rows_are_compared_byte_by_byte(width: int) -> None:
    rng = np.random.default_rng(width)
    rows = rng.normal(size=(50, width)).astype(np.float32)
    chosen = rng.integers(0, 50, 400)
    groups = duplicates.duplicate_groups(rows[chosen])
    np.testing.assert_array_equal(groups[:, None] == groups, chosen[:, None] == chosen)
    nearly = np.stack([rows[0], rows[0]])
    nearly[1, -1] = np.nextafter(nearly[1, -1], np.float32(9))
    assert duplicates.duplicate_groups(nearly).tolist() == [0, 1]


def test_equal_fingerprints_alone_make_no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_fingerprint", lambda raw: np.zeros(len(raw), np.uint64))
    groups = duplicates.duplicate_groups(hashes("a", "b", "a", "c"))
    assert groups.tolist() == [0, 1, 0, 2]


def test_no_samples_and_bad_shapes() -> None:
    assert duplicates.duplicate_groups(np.empty((0, 32), np.uint8)).tolist() == []
    with pytest.raises(InputError, match="2-D"):
        duplicates.duplicate_groups(np.zeros(4, np.uint8))
    with pytest.raises(InputError, match="4 rows"):
        duplicates.duplicate_groups(np.zeros((4, 2), np.uint8), np.ones(3, bool))
