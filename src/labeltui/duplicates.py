"""Exact and near-duplicates of an image.

Groups are numbers per sample: equal numbers are duplicates, and a sample without duplicates has a number of its
own. Folds keep a group together and a neighbour vote counts it once, since the label of a duplicate is no
independent evidence.

Exact duplicates have equal hashes of their decoded pixels (or equal embedding rows). Near-duplicates, such as an
image that was re-encoded, resized, shifted, mirrored or brightened, are found in the neighbour graph:

::

    neighbours with cosine >= threshold --(with images)-----> distance of thumbnails <= limit --> joined
                                        --(without images)--> joined

The two cases have different thresholds. Without images the cosine alone decides, at .995, a level that few
distinct samples reach, and few duplicates either. With images the cosine only selects the pairs to compare.
Thumbnails are compared by their high-pass filtered detail, since smooth shading and colour are alike in many
distinct images. In both cases the distance of a pair must be `RATIO` times smaller than the median distance of a
tenth neighbour: in some data sets (digits, scans, cut-out faces) all images are alike.

`MIN_COSINE` and `RATIO` are derived from images that are distinct by construction and from duplicates made of
them, without labels. `benchmarks/duplicates.py --only derive` repeats it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import sparse
from scipy.ndimage import uniform_filter
from scipy.sparse.csgraph import connected_components

from labeltui import parallel
from labeltui.errors import Cancelled, InputError, SourceError
from labeltui.parallel import Progress

Groups: TypeAlias = NDArray[np.int32]

THRESHOLD = 0.995  # cosine at which two samples are duplicates without a look at the images
MIN_COSINE = 0.65  # cosine from which on two images are compared
RATIO = 6.0  # background distance, that of a COLUMNS-th neighbour, over the largest distance of duplicates
COLUMNS = 10  # neighbours per sample searched for duplicates; larger groups are linked through each other
REFERENCE_PAIRS = 512  # samples that give the background distance
SIDE = 32  # of a thumbnail, pixels
HIGHPASS = 15  # side of the square whose mean is subtracted, thumbnail pixels
SHIFT = 2  # tolerated displacement, thumbnail pixels
NOISE = 2.0  # variance attributed to noise, squared grey levels
BLOCK = 2048  # pairs per batch


def duplicate_groups(rows: NDArray[Any], ok: NDArray[np.bool_] | None = None) -> Groups:
    """Number samples so that two have the same number exactly if their rows are identical.

    Parameters
    ----------
    rows : (N, b)
        Of any fixed-size type, compared byte by byte: hashes of decoded pixels, (N, 32) uint8, or embedding
        rows.
    ok : (N,) bool, optional
        Readable samples; each other one gets a number of its own.

    Returns
    -------
    (N,) int32
        0, 1, ... in the order in which groups first appear.
    """
    rows = np.ascontiguousarray(rows)
    if rows.ndim != 2 or rows.dtype.hasobject:
        raise InputError("rows must be a 2-D array of a fixed-size type", f"got {rows.ndim}-D {rows.dtype}")
    n = len(rows)
    if ok is not None and np.shape(ok) != (n,):
        raise InputError(f"ok must have shape ({n},)", f"got {np.shape(ok)}")
    raw = rows.view(np.uint8).reshape(n, rows.shape[1] * rows.itemsize)
    # Sort by a 64-bit fingerprint, then compare whole rows inside runs of equal fingerprints.
    keys = _fingerprint(raw)
    order = np.argsort(keys, kind="stable")
    leader = np.arange(n, dtype=np.int64)
    same = np.flatnonzero(keys[order][1:] == keys[order][:-1]) + 1
    for run in np.split(same, np.flatnonzero(np.diff(same) > 1) + 1) if len(same) else []:
        first_of: dict[bytes, int] = {}
        for sample in np.sort(order[run[0] - 1 : run[-1] + 1]):
            if ok is None or ok[sample]:
                leader[sample] = first_of.setdefault(raw[sample].tobytes(), int(sample))
    return number_groups(leader)


def number_groups(leader: NDArray[Any]) -> Groups:
    """Renumber group numbers 0, 1, ... in the order in which groups first appear: (N,) int32."""
    _, first, inverse = np.unique(leader, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int32)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first), dtype=np.int32)
    return rank[inverse.reshape(-1)]


@dataclass(frozen=True)
class NearDuplicates:
    """Groups of exact and near-duplicates, with the pairs and the rule that formed them.

    Attributes
    ----------
    groups : (N,) int32
        Exact and near-duplicates have the same number.
    first, second : (P,) int32
        Near-duplicate pairs, first < second, most similar first.
    similarity : (P,) float32
        Their cosines.
    distance : (P,) float32
        Their thumbnails' distance, or 1 - cosine where no images were compared.
    threshold : float
        Smallest cosine of a candidate pair.
    limit : float
        Largest distance of a near-duplicate pair.
    background : float
        Median distance of a tenth neighbour, which sets the limit; 1, that of unrelated images, if no sample
        has a neighbour of another group.
    candidates : int
        Pairs with a cosine at the threshold or above.
    n_compared : int
        Pairs whose images were compared, the most similar first; 0 = none.
    min_compared_cosine : float
        Smallest cosine among those; the threshold if all candidates were compared.
    unreadable : int
        Pairs with an unreadable image; they are not joined.
    """

    groups: Groups
    first: NDArray[np.int32]
    second: NDArray[np.int32]
    similarity: NDArray[np.float32]
    distance: NDArray[np.float32]
    threshold: float
    limit: float
    background: float
    candidates: int
    n_compared: int
    min_compared_cosine: float
    unreadable: int

    def attrs(self) -> dict[str, float | int]:
        """The rule and its counts, as stored with the groups."""
        names = (
            "threshold",
            "limit",
            "background",
            "candidates",
            "n_compared",
            "min_compared_cosine",
            "unreadable",
        )
        return {name: getattr(self, name) for name in names} | {"pairs": len(self.first)}


def near_duplicates(
    indices: NDArray[Any],
    similarity: NDArray[Any],
    exact: NDArray[Any] | None = None,
    *,
    image: Callable[[int], Image.Image] | None = None,
    metric: str = "cosine",
    threshold: float | None = None,
    ratio: float = RATIO,
    max_pairs: int | None = None,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
    cancel: Callable[[], bool] | None = None,
) -> NearDuplicates:
    """Group samples whose images are nearly the same, whatever their labels and splits.

    Parameters
    ----------
    indices, similarity : (N, k) int32, (N, k) float32
        Neighbour lists by cosine, nearest first; -1 = none.
    exact : (N,) int, optional
        Groups of exact duplicates, which stay together.
    image : callable, optional
        ``image(i)`` returns image i; must be thread-safe. Without it the cosine alone decides.
    metric : str
        Of the graph; must be "cosine".
    threshold : float, optional
        Least cosine; by default `MIN_COSINE` with images and `THRESHOLD` without.
    ratio : float
        Background distance over the largest distance of duplicates.
    max_pairs : int, optional
        Compare at most this many pairs, the most similar first; by default N / 4 but at least 10,000, so that
        about half of all images are read at most. 0 compares and joins none.
    seed : int
        Of the reference pairs.
    threads : int, optional
        Does not change the result.
    progress, cancel : callable, optional
        Called with the finished fraction, 0..1; called to ask whether to stop.

    Returns
    -------
    NearDuplicates

    Raises
    ------
    InputError
        Shapes do not fit, or the metric is not cosine.
    Cancelled
        `cancel` returned True.
    """
    indices, similarity = np.asarray(indices), np.asarray(similarity)
    n = len(indices)
    if indices.ndim != 2 or similarity.shape != indices.shape:
        raise InputError(
            "similarity must have the shape of indices", f"got {similarity.shape} and {indices.shape}"
        )
    if metric != "cosine":
        raise InputError(
            "near-duplicates need the cosine metric",
            f"the graph's metric is {metric}",
            "build a cosine graph",
        )
    groups = np.arange(n, dtype=np.int32) if exact is None else number_groups(np.asarray(exact))
    if groups.shape != (n,):
        raise InputError(f"exact groups must have shape ({n},)", f"got {groups.shape}")
    if threshold is None:
        threshold = THRESHOLD if image is None else MIN_COSINE
    first, second, cosine = _candidates(indices, similarity, groups, threshold)
    candidates = len(first)
    unreadable = 0
    if image is None:
        distance: NDArray[Any] = 1 - cosine
        background_distances: NDArray[Any] = 1 - similarity[_reference_pairs(indices, groups, seed)]
    else:
        max_pairs = max(10_000, n // 4) if max_pairs is None else max_pairs
        first, second, cosine = first[:max_pairs], second[:max_pairs], cosine[:max_pairs]
        reference = (
            _reference_pairs(indices, groups, seed) if len(first) else (np.empty(0, int), np.empty(0, int))
        )
        ends = indices[reference]
        compared = _compare(
            np.concatenate([reference[0], first]),
            np.concatenate([ends, second]),
            image,
            threads,
            progress,
            cancel,
        )
        background_distances, distance = compared[: len(ends)], compared[len(ends) :]
        background_distances = background_distances[np.isfinite(background_distances)]
        unreadable = int(np.isinf(distance).sum())
    background = float(np.median(background_distances)) if len(background_distances) else 1.0
    limit = background / ratio
    if image is None:
        limit = min(limit, 1 - threshold)
    joined = distance <= limit
    links = sparse.coo_array(
        (np.ones(int(joined.sum()), bool), (groups[first[joined]], groups[second[joined]])), shape=(n, n)
    )
    component = connected_components(links, directed=False)[1]
    return NearDuplicates(
        groups=number_groups(component[groups]),
        first=first[joined],
        second=second[joined],
        similarity=cosine[joined].astype(np.float32),
        distance=distance[joined].astype(np.float32),
        threshold=float(threshold),
        limit=float(limit),
        background=background,
        candidates=candidates,
        n_compared=len(first) if image is not None else 0,
        min_compared_cosine=float(cosine[-1]) if len(first) < candidates and len(first) else float(threshold),
        unreadable=unreadable,
    )


def thumbnail(image: Image.Image) -> NDArray[np.uint8]:
    """An image shrunk (or stretched) to SIDE x SIDE, as (SIDE, SIDE, 3) uint8."""
    reduce = Image.Resampling.BOX if min(image.size) >= SIDE else Image.Resampling.BILINEAR
    return np.asarray(image.convert("RGB").resize((SIDE, SIDE), reduce), dtype=np.uint8)


def image_distance(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float32]:
    """1 - correlation of the detail of thumbnails, the smallest over small shifts and mirroring.

    Brightness, contrast and a cast of colour cancel; images without detail have distance 1 to all others.

    Parameters
    ----------
    a, b : (M, SIDE, SIDE, 3) uint8

    Returns
    -------
    (M,) float32
        0 for equal images, about 1 for unrelated ones.
    """
    left, right, mirrored = _detail(a), _detail(b), _detail(b[:, :, ::-1])
    shifts = [(dy, dx) for dy in range(-SHIFT, SHIFT + 1) for dx in range(-SHIFT, SHIFT + 1)]
    energy = {shift: _energy(_cut(left, *shift)) for shift in shifts}
    best = np.full(len(a), -1.0, dtype=np.float32)
    for other in (right, mirrored):
        for dy, dx in shifts:
            # The overlapping parts of the two when one is shifted by dy, dx.
            here, there = _cut(left, dy, dx), _cut(other, -dy, -dx)
            scale = np.sqrt(energy[dy, dx] * _energy(there)) + NOISE * here[0].size
            best = np.maximum(best, np.einsum("nij,nij->n", here, there) / scale)
    return np.maximum(1 - best, 0)


def _candidates(
    indices: NDArray[Any], similarity: NDArray[Any], groups: Groups, threshold: float
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[Any]]:
    """Pairs i < j of different groups, once each, by falling cosine, ties by index."""
    rows, columns = np.nonzero((similarity[:, :COLUMNS] >= threshold) & (indices[:, :COLUMNS] >= 0))
    others = indices[rows, columns]
    first, second = np.minimum(rows, others), np.maximum(rows, others)
    cosine = similarity[rows, columns]
    keep = groups[first] != groups[second]
    first, second, cosine = first[keep], second[keep], cosine[keep]
    _, once = np.unique(first.astype(np.int64) * len(indices) + second, return_index=True)
    order = once[np.argsort(-cosine[once], kind="stable")]
    return first[order].astype(np.int32), second[order].astype(np.int32), cosine[order]


def _reference_pairs(
    indices: NDArray[Any], groups: Groups, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the COLUMNS-th (or last earlier) neighbours of sampled rows, exact duplicates aside."""
    rows = np.random.default_rng(seed).permutation(len(indices))[: 4 * REFERENCE_PAIRS]
    lists = np.asarray(indices[rows, :COLUMNS])
    usable = (lists >= 0) & (groups[lists] != groups[rows][:, None])
    column = lists.shape[1] - 1 - usable[:, ::-1].argmax(axis=1)
    keep = np.flatnonzero(usable.any(axis=1))[:REFERENCE_PAIRS]
    return rows[keep], column[keep]


def _compare(
    first: NDArray[Any],
    second: NDArray[Any],
    image: Callable[[int], Image.Image],
    threads: int | None,
    progress: Progress | None,
    cancel: Callable[[], bool] | None,
) -> NDArray[np.float32]:
    """Distances of pairs of images, infinite where one cannot be read."""

    def read(samples: list[int]) -> list[NDArray[np.uint8] | None]:
        found: list[NDArray[np.uint8] | None] = []
        for sample in samples:
            try:
                found.append(thumbnail(image(sample)))
            except SourceError:
                found.append(None)
        return found

    def distances(part: list[tuple[int, NDArray[np.uint8], NDArray[np.uint8]]]) -> NDArray[np.float32]:
        return image_distance(np.stack([a for _, a, _ in part]), np.stack([b for _, _, b in part]))

    distance = np.full(len(first), np.inf, dtype=np.float32)
    with ThreadPoolExecutor(parallel.count_threads(threads)) as pool:
        for start, stop in _blocks(len(first)):
            if cancel is not None and cancel():
                raise Cancelled("the search for near-duplicates was cancelled")
            samples = np.unique(np.concatenate([first[start:stop], second[start:stop]])).tolist()
            # Handing a thread one small image costs more than reading it.
            some = [samples[low:high] for low, high in _blocks(len(samples), 16)]
            read_ones = itertools.chain.from_iterable(pool.map(read, some))
            thumbnails = dict(zip(samples, read_ones, strict=True))
            pairs = [
                (at, thumbnails[int(first[at])], thumbnails[int(second[at])]) for at in range(start, stop)
            ]
            readable = [(at, a, b) for at, a, b in pairs if a is not None and b is not None]
            parts = [readable[low:high] for low, high in _blocks(len(readable), 256)]
            for part, found in zip(parts, pool.map(distances, parts), strict=True):
                distance[[at for at, _, _ in part]] = found
            if progress is not None:
                progress(stop / len(first))
    return distance


def _blocks(n: int, size: int = BLOCK) -> Iterator[tuple[int, int]]:
    for start in range(0, n, size):
        yield start, min(n, start + size)


def _detail(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Means of 2 x 2 pixels at every offset (so that shifts by half a pixel matter little), high-pass filtered.

    (M, SIDE, SIDE, 3) becomes (M, SIDE - 1, 3 * (SIDE - 1)): sums over windows then run along whole rows.
    """
    t = thumbnails.astype(np.float32)
    t = (t[:, :-1, :-1] + t[:, 1:, :-1] + t[:, :-1, 1:] + t[:, 1:, 1:]) * np.float32(0.25)
    t -= uniform_filter(t, (1, HIGHPASS, HIGHPASS, 1), mode="nearest")
    return t.reshape(len(t), t.shape[1], -1)


def _cut(t: NDArray[np.float32], dy: int, dx: int) -> NDArray[np.float32]:
    height, width = t.shape[1:]
    return t[:, max(0, dy) : height + min(0, dy), 3 * max(0, dx) : width + 3 * min(0, dx)]


def _energy(t: NDArray[np.float32]) -> NDArray[np.float32]:
    energy: NDArray[np.float32] = np.einsum("nij,nij->n", t, t)
    return energy


def _fingerprint(raw: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """A 64-bit mix of each row's bytes; equal rows have equal ones."""
    n, width = raw.shape
    padded = -(-width // 8) * 8
    mixed = np.zeros(n, dtype=np.uint64)
    block = max(1, (64 << 20) // max(8, padded))
    for start in range(0, n, block):
        part = raw[start : start + block]
        if padded != width:
            part = np.pad(part, ((0, 0), (0, padded - width)))
        words = np.ascontiguousarray(part).view(np.uint64)
        key = np.zeros(len(part), dtype=np.uint64)
        for column in range(words.shape[1]):
            key = (key ^ words[:, column]) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(29)
        mixed[start : start + len(part)] = key
    return mixed
