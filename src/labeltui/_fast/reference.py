"""The readable numpy twin of every kernel: what the compiled code must equal, and the oracle of its tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

# ---- knn ----


def exact_products(
    x: npt.NDArray[Any], y: npt.NDArray[Any], distance: bool = False
) -> npt.NDArray[np.float64]:
    """Return the products (or squared distances) of every row of x with every row of y, in the one defined order.

    Element t goes to lane t % 8, lanes add in float64 one element after the other, and the lanes are folded in halves.

    Parameters
    ----------
    x, y : (n, d) and (m, d) float32 or float16

    Returns
    -------
    (n, m) float64
    """
    n, m, d = len(x), len(y), x.shape[1]
    lanes = np.zeros((n, m, 8))
    for t in range(d):
        a, b = x[:, None, t].astype(np.float64), y[None, :, t].astype(np.float64)
        lanes[:, :, t % 8] += (a - b) ** 2 if distance else a * b
    halves = lanes[:, :, :4] + lanes[:, :, 4:]
    quarters = halves[:, :, :2] + halves[:, :, 2:]
    total: npt.NDArray[np.float64] = quarters[:, :, 0] + quarters[:, :, 1]
    return total


def similarities(x: npt.NDArray[Any], metric: str = "cosine") -> npt.NDArray[np.float32]:
    """Return the (N, N) float32 similarities that order the neighbour graph."""
    if metric == "euclidean":
        return -np.sqrt(exact_products(x, x, distance=True)).astype(np.float32)
    products = exact_products(x, x)
    if metric == "cosine":
        inverse = 1.0 / np.sqrt(np.diagonal(products))
        products = products * (inverse[:, None] * inverse[None, :])
    with np.errstate(over="ignore"):
        return products.astype(np.float32)


def knn_graph(
    x: npt.NDArray[Any], k: int, metric: str = "cosine"
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Return the k most similar other rows of each row, ties by index, and their similarities."""
    s = similarities(x, metric)
    n = len(s)
    indices = np.empty((n, k), np.int32)
    for i in range(n):
        others = np.delete(np.arange(n), i)
        indices[i] = others[np.argsort(-s[i, others], kind="stable")[:k]]
    return indices, np.take_along_axis(s, indices.astype(np.int64), axis=1) + np.float32(0.0)


def reverse_lists(
    indices: npt.NDArray[np.int32], k: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Return, for each row, who lists it among its first k neighbours: offsets and members in ascending order."""
    n = len(indices)
    lists = [np.flatnonzero((indices[:, :k] == s).any(axis=1)) for s in range(n)]
    offsets = np.concatenate([[0], np.cumsum([len(members) for members in lists])]).astype(np.int64)
    return offsets, np.concatenate([*lists, np.zeros(0, np.int64)]).astype(np.int32)


# --- csg: class counts, overlaps, relabels -----------------------------------------------------------------


def pooled_counts(
    indices: npt.NDArray[np.int32], labels: npt.NDArray[np.int32], n_classes: int, k: int, first: int = 0
) -> npt.NDArray[np.int64]:
    """T[i, j] = neighbours of label j in columns first..k of the samples of label i; -1 counts nowhere."""
    T = np.zeros((n_classes, n_classes), dtype=np.int64)
    for sample, label in enumerate(labels):
        for neighbour in indices[sample, first:k]:
            if label >= 0 and neighbour >= 0 and labels[neighbour] >= 0:
                T[label, labels[neighbour]] += 1
    return T


def overlap(S: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """W[i, j] = sum over c of min(S[i, c], S[j, c])."""
    W: npt.NDArray[np.float64] = np.minimum(S[:, None, :], S[None, :, :]).sum(axis=2)
    return W


def fixed_similarity(T: npt.NDArray[np.int64], one: int) -> npt.NDArray[np.int64]:
    """S as integer multiples of 1 / one, rounded from a product in float64; rows without counts are 0."""
    sums = T.sum(axis=1, keepdims=True)
    scale = np.divide(float(one), sums, out=np.zeros(sums.shape), where=sums > 0)
    S: npt.NDArray[np.int64] = np.floor(T * scale + 0.5).astype(np.int64)
    return S


# --- votes: leave-one-out votes of neighbours --------------------------------------------------------------


def ballot(
    indices: npt.NDArray[np.int32],
    labels: npt.NDArray[np.int32],
    groups: npt.NDArray[np.int32],
    row: int,
    k: int,
) -> list[int]:
    """Columns of the first k neighbours of `row` that vote: labelled, and the first of another group."""
    columns: list[int] = []
    seen = {int(groups[row])}
    for column, neighbour in enumerate(indices[row]):
        if len(columns) == k:
            break
        if neighbour < 0 or labels[neighbour] < 0 or int(groups[neighbour]) in seen:
            continue
        seen.add(int(groups[neighbour]))
        columns.append(column)
    return columns


def vote(
    indices: npt.NDArray[np.int32],
    similarity: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int32],
    groups: npt.NDArray[np.int32],
    n_classes: int,
    k: int,
    temperature: float | None = None,
    smoothing: float = 1.0,
) -> npt.NDArray[np.float32]:
    """p_j = (w_j + smoothing / K) / (sum of w + smoothing), w = exp((s - first vote's s) / temperature)."""
    p = np.full((len(labels), n_classes), smoothing / n_classes)
    for row in range(len(labels)):
        columns = ballot(indices, labels, groups, row, k)
        for column in columns:
            gap = float(similarity[row, column]) - float(similarity[row, columns[0]])
            weight = 1.0 if temperature is None else np.exp(gap / temperature)
            p[row, labels[indices[row, column]]] += weight
        p[row] = p[row] / p[row].sum() if p[row].sum() > 0 else 1.0 / n_classes
    return p.astype(np.float32)


# --- sixel: few colours, escape data ---------------------------------------------------------------------------


def few_colours(
    pixels: npt.NDArray[np.uint8], limit: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]] | None:
    """Palette in order of appearance and indices of an image of at most `limit` colours."""
    colours, first, inverse = np.unique(pixels, axis=0, return_index=True, return_inverse=True)
    if len(colours) > limit:
        return None
    order = np.argsort(first)
    return colours[order], np.argsort(order)[inverse.reshape(-1)].astype(np.uint8)


def quantise(
    pixels: npt.NDArray[np.uint8], limit: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Cut the 32 x 32 x 32 cells of the colour space into boxes of least squared error (Wu, 1991)."""
    cells = (pixels >> 3).astype(np.int64)
    values = pixels.astype(np.int64)
    moments = np.zeros((32, 32, 32, 5), np.int64)  # number, sums of red, green and blue, sum of squares
    parts = np.column_stack([np.ones(len(values), np.int64), values, (values**2).sum(axis=1)])
    np.add.at(moments, tuple(cells.T), parts)

    def gain(m: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        c = m[..., 1:4].astype(np.float64)
        sums: npt.NDArray[np.float64] = c[..., 0] * c[..., 0] + c[..., 1] * c[..., 1] + c[..., 2] * c[..., 2]
        return sums / m[..., 0]

    def spread(box: tuple[slice, ...]) -> float:
        m = moments[box].sum(axis=(0, 1, 2))
        return 0.0 if moments[box].size == 5 else float(m[4] - gain(m))

    boxes: list[tuple[slice, ...]] = [(slice(0, 32),) * 3]
    spreads = [spread(boxes[0])]
    while len(boxes) < limit:
        worst = int(np.argmax(spreads))
        if spreads[worst] <= 0:
            break
        box, best, where = boxes[worst], -1.0, (0, 0)
        for axis in range(3):
            lines = np.moveaxis(moments[box], axis, 0).sum(axis=(1, 2))
            low = np.cumsum(lines, axis=0)[:-1]
            high = lines.sum(axis=0) - low
            for cut in np.flatnonzero((low[:, 0] > 0) & (high[:, 0] > 0)):
                value = float(gain(low[cut]) + gain(high[cut]))
                if value > best:
                    best, where = value, (axis, box[axis].start + int(cut) + 1)
        if best < 0:
            spreads[worst] = 0.0
            continue
        axis, at = where
        one, two = list(box), list(box)
        one[axis], two[axis] = slice(box[axis].start, at), slice(at, box[axis].stop)
        boxes[worst] = tuple(one)
        boxes.append(tuple(two))
        spreads[worst] = spread(boxes[worst])
        spreads.append(spread(boxes[-1]))
    owner = np.zeros((32, 32, 32), np.uint8)
    palette = np.zeros((len(boxes), 3), np.uint8)
    for number, box in enumerate(boxes):
        owner[box] = number
        m = moments[box].sum(axis=(0, 1, 2))
        palette[number] = (m[1:4] + m[0] // 2) // m[0]
    return palette, owner[tuple(cells.T)]


def calm(
    index: npt.NDArray[np.uint8],
    pixels: npt.NDArray[np.uint8],
    palette: npt.NDArray[np.uint8],
    tolerance: int,
) -> None:
    """Give each pixel its left or upper neighbour's colour where the squared error hardly grows; in place."""
    height, width = index.shape
    wanted, colours = pixels.astype(np.int64).reshape(height, width, 3), palette.astype(np.int64)
    for y in range(height):
        for x in range(width):
            neighbours = [index[y, x - 1]] * (x > 0) + [index[y - 1, x]] * (y > 0)
            errors = [int(((colours[k] - wanted[y, x]) ** 2).sum()) for k in [index[y, x], *neighbours]]
            if neighbours and min(errors[1:]) <= errors[0] + tolerance:
                index[y, x] = neighbours[int(np.argmin(errors[1:]))]


def pack(index: npt.NDArray[np.uint8], edges: npt.NDArray[np.int32], lines: npt.NDArray[np.int32]) -> bytes:
    """Bands of sixels: pieces of one colour, first fit from left to right, a pass at a time."""
    hole = 4

    def run(length: int, mask: int) -> str:
        return f"!{length}{chr(63 + mask)}" if length > 3 else chr(63 + mask) * length

    bands = []
    for top in range(0, len(lines), 6):
        masks: dict[int, dict[int, int]] = {}  # colour -> column -> which of the six pixels
        pieces: list[tuple[int, int, int]] = []  # first and last column, colour
        growing: dict[int, int] = {}
        for column in np.flatnonzero(np.diff(edges)).tolist():
            for bit, line in enumerate(lines[top : top + 6]):
                colour = int(index[line, column])
                columns = masks.setdefault(colour, {})
                if column not in columns:
                    piece = growing.get(colour)
                    if piece is not None and edges[column] - edges[pieces[piece][1] + 1] <= hole:
                        pieces[piece] = pieces[piece][0], column, colour
                    else:
                        growing[colour] = len(pieces)
                        pieces.append((column, column, colour))
                columns[column] = columns.get(column, 0) | 1 << bit
        passes, pen = [], -1
        while pieces:
            out, x, later = "", 0, []
            for first, last, colour in pieces:
                if edges[first] < x:
                    later.append((first, last, colour))
                    continue
                if colour != pen:
                    out += f"#{colour}"
                    pen = colour
                pixels = [0] * int(edges[first] - x)
                for column in range(first, last + 1):
                    width = int(edges[column + 1] - edges[column])
                    pixels += [masks[colour].get(column, 0)] * width
                start = 0
                for position in range(1, len(pixels) + 1):
                    if position == len(pixels) or pixels[position] != pixels[start]:
                        out += run(position - start, pixels[start])
                        start = position
                x = int(edges[last + 1])
            passes.append(out)
            pieces = later
        bands.append("$".join(passes))
    return "-".join(bands).encode("ascii")


# --- half blocks -------------------------------------------------------------------------------------------------


def half_blocks(codes: npt.NDArray[np.int32], kind: int) -> list[str]:
    """Rows of cells of two dots each; of all ways to draw a cell the first of those that change least."""

    def colour(code: int, ground: int) -> str:
        if kind == 2:
            return str(code + (30 if code < 8 else 82) + ground)
        if kind == 1:
            return f"{38 + ground};5;{code}"
        return f"{38 + ground};2;{code >> 16};{code >> 8 & 255};{code & 255}"

    lines = []
    for top, bottom in zip(codes[::2].tolist(), codes[1::2].tolist(), strict=True):
        line, front, back = "", -1, -1
        for upper, lower in zip(top, bottom, strict=True):
            if upper == lower:
                solid = front == upper and back != upper
                fore, ground, glyph = (upper, back, "█") if solid else (front, upper, " ")
            else:
                ways = [(upper, lower, "▀"), (lower, upper, "▄")]
                fore, ground, glyph = min(ways, key=lambda way: (way[0] != front) + (way[1] != back))
            change = [colour(fore, 0)] * (fore != front) + [colour(ground, 10)] * (ground != back)
            line += (f"\x1b[{';'.join(change)}m" if change else "") + glyph
            front, back = fore, ground
        lines.append(f"{line}\x1b[0m")
    return lines
