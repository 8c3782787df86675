"""Which samples are copies of each other, and where their labels disagree."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_sample_images

from labeltui import duplicates
from labeltui.audit.duplicates import DuplicateGroups
from labeltui.errors import Cancelled, InputError, UnreadableImage


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
    with pytest.raises(InputError, match=r"shape \(4,\)"):
        duplicates.duplicate_groups(np.zeros((4, 2), np.uint8), np.ones(3, bool))


# --- near copies -------------------------------------------------------------------------------------------


def photographs(n: int, seed: int = 0) -> list[Image.Image]:
    """Tiles, all different, of the two photographs that come with scikit-learn; tiles of plain sky left out."""
    tiles = []
    for photo in load_sample_images().images:
        for top in range(0, photo.shape[0] - 39, 40):
            for left in range(0, photo.shape[1] - 39, 40):
                tile = photo[top : top + 40, left : left + 40]
                if np.abs(np.diff(tile.astype(float), axis=0)).mean() > 6:
                    tiles.append(Image.fromarray(tile))
    return [tiles[i] for i in np.random.default_rng(seed).permutation(len(tiles))[:n]]


def encoded(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "encoded": lambda p: encoded(p, 50),
    "smaller": lambda p: p.resize((32, 32), Image.Resampling.BICUBIC),
    "larger": lambda p: p.resize((64, 64), Image.Resampling.BICUBIC),
    "shifted": lambda p: Image.fromarray(
        np.pad(np.asarray(p), ((1, 0), (0, 1), (0, 0)), mode="edge")[:40, 1:]
    ),
    "mirrored": ImageOps.mirror,
    "brighter": lambda p: ImageEnhance.Brightness(p).enhance(1.15),
    "flatter": lambda p: ImageEnhance.Contrast(p).enhance(0.7),
}


def graph_of(images: list[Image.Image], k: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours by cosine of coarse grey thumbnails, folded left on right so that a mirror image is no stranger."""
    X = np.stack([np.asarray(p.convert("L").resize((8, 8)), float) for p in images])
    X = (X + X[:, :, ::-1]).reshape(len(X), -1)
    X -= X.mean(axis=1, keepdims=True)
    X /= np.linalg.norm(X, axis=1, keepdims=True) + 1e-9
    cosine = X @ X.T
    np.fill_diagonal(cosine, -2)
    order = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    return order.astype(np.int32), np.take_along_axis(cosine, order, 1).astype(np.float32)


@pytest.mark.parametrize("kind", sorted(COPIES))
def test_near_copies_are_found_and_distinct_images_left_alone(kind: str) -> None:
    originals = photographs(90)
    images = originals + [COPIES[kind](p) for p in originals[:30]]
    found = duplicates.near_duplicates(*graph_of(images), image=images.__getitem__)
    groups = found.groups
    recovered = sum(groups[i] == groups[90 + i] for i in range(30))
    assert recovered >= 27
    assert len(np.unique(groups[:90])) == 90
    assert found.n_compared == found.candidates >= 30
    assert found.limit == pytest.approx(found.background / duplicates.RATIO)
    assert (found.distance <= found.limit).all()
    assert (found.first < found.second).all()


def test_without_images_only_the_cosine_decides() -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(200, 32))
    X[150:] = X[:50] + 0.02 * rng.normal(size=(50, 32))  # cosine about .9998
    X[140:150] = X[:10] + 0.3 * rng.normal(size=(10, 32))  # about .96: near, no copy
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    cosine = X @ X.T
    np.fill_diagonal(cosine, -2)
    order = np.argsort(-cosine, axis=1)[:, :20].astype(np.int32)
    similarity = np.take_along_axis(cosine, order, 1).astype(np.float32)
    found = duplicates.near_duplicates(order, similarity)
    assert found.groups[:50].tolist() == found.groups[150:].tolist()
    assert len(DuplicateGroups(found.groups).groups()) == 50
    assert (found.threshold, found.n_compared) == (duplicates.THRESHOLD, 0)
    looser = duplicates.near_duplicates(order, similarity, threshold=0.9)
    assert looser.groups[:10].tolist() == looser.groups[140:150].tolist()
    assert looser.attrs()["pairs"] == len(looser.first) > 50


def test_a_collapsed_embedding_joins_nothing_by_cosine_alone() -> None:
    """All cosines above .995: what is usual here is no sign of a copy."""
    rng = np.random.default_rng(2)
    X = 1 + 0.03 * rng.normal(size=(120, 64))
    X[100:] = X[:20] + 1e-4 * rng.normal(size=(20, 64))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    cosine = X @ X.T
    assert cosine.min() > duplicates.THRESHOLD
    np.fill_diagonal(cosine, -2)
    order = np.argsort(-cosine, axis=1)[:, :30].astype(np.int32)
    found = duplicates.near_duplicates(order, np.take_along_axis(cosine, order, 1).astype(np.float32))
    assert sorted(map(len, DuplicateGroups(found.groups).groups())) == [2] * 20
    assert found.groups[:20].tolist() == found.groups[100:].tolist()


def test_exact_groups_stay_together_and_chains_join() -> None:
    # 0 and 1 are exact copies, 2 is near 1, 3 is near 2; 4 and 5 stand alone.
    indices = np.full((6, 5), -1, np.int32)
    similarity = np.zeros((6, 5), np.float32)
    for a, near in enumerate([(1, 4), (0, 2), (1, 3), (2, 5), (0,), (3,)]):
        indices[a, : len(near)] = near
        similarity[a, : len(near)] = 0.999 if a < 4 else 0.2
    similarity[[0, 3], 1] = 0.2
    exact = np.array([0, 0, 1, 2, 3, 4], np.int32)
    found = duplicates.near_duplicates(indices, similarity, exact)
    assert found.groups.tolist() == [0, 0, 0, 0, 1, 2]
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == [(1, 2), (2, 3)]
    none = duplicates.near_duplicates(indices, similarity, exact, threshold=1.0)
    assert none.groups.tolist() == exact.tolist()


def test_unreadable_images_are_joined_with_nothing_and_counted() -> None:
    originals = photographs(60)
    images = originals + [encoded(p, 60) for p in originals[:10]]

    def read(sample: int) -> Image.Image:
        if sample == 3:
            raise UnreadableImage("an image can be decoded", "this one is cut off")
        return images[sample]

    found = duplicates.near_duplicates(*graph_of(images), image=read)
    assert found.unreadable >= 1
    assert found.groups[3] != found.groups[63]
    assert found.groups[4] == found.groups[64]


def test_the_most_similar_pairs_are_looked_at_first_and_no_more_than_asked() -> None:
    originals = photographs(60)
    images = originals + [encoded(p, 60) for p in originals]
    read: list[int] = []

    def image(sample: int) -> Image.Image:
        read.append(sample)
        return images[sample]

    graph = graph_of(images)
    everything = duplicates.near_duplicates(*graph, image=image)
    few = duplicates.near_duplicates(*graph, image=image, max_pairs=5)
    assert few.n_compared == 5 < few.candidates == everything.candidates
    assert few.min_compared_cosine > everything.min_compared_cosine == duplicates.MIN_COSINE
    assert set(few.first.tolist()) <= set(everything.first[:5].tolist())
    read.clear()
    assert duplicates.near_duplicates(*graph, image=image, max_pairs=0).groups.tolist() == list(range(120))
    assert read == []


def test_threads_progress_and_cancel() -> None:
    originals = photographs(40)
    images = originals + [encoded(p, 60) for p in originals]
    graph = graph_of(images)
    told: list[float] = []
    one = duplicates.near_duplicates(*graph, image=images.__getitem__, threads=1, progress=told.append)
    many = duplicates.near_duplicates(*graph, image=images.__getitem__, threads=4)
    assert one.groups.tolist() == many.groups.tolist()
    assert one.distance.tobytes() == many.distance.tobytes()
    assert told == sorted(told)
    assert told[-1] == 1
    with pytest.raises(Cancelled):
        duplicates.near_duplicates(*graph, image=images.__getitem__, cancel=lambda: True)


def test_image_distance_ignores_brightness_and_knows_one_colour_from_another() -> None:
    a, b = (duplicates.thumbnail(p) for p in photographs(2))
    grey = np.full_like(a, 128)
    distance = duplicates.image_distance(np.stack([a, a, a, grey]), np.stack([a, a // 2, b, grey]))
    assert distance[0] < 0.02
    assert distance[1] < 0.05
    assert distance[2] > 0.4
    assert distance[3] == 1  # one colour: nothing to correlate


def test_near_copies_need_cosines() -> None:
    indices, similarity = np.zeros((2, 1), np.int32), np.zeros((2, 1), np.float32)
    with pytest.raises(InputError, match="euclidean"):
        duplicates.near_duplicates(indices, similarity, metric="euclidean")
    with pytest.raises(InputError, match="similarity"):
        duplicates.near_duplicates(indices, similarity[:1])
    with pytest.raises(InputError, match="exact groups"):
        duplicates.near_duplicates(indices, similarity, np.zeros(3, int))
