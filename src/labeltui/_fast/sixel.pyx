"""Sixel images: few colours, then the escape data.

A sixel is a column of six pixels of one colour; a row of sixels is a band. Within a band the pen may go over the
line several times, once for each colour that has to share columns with others. What makes the data short here:

* the image stays at its own size: columns and rows are repeated while packing, a whole run at a time, and a band that
  shows the same rows as the one before is copied;
* pieces of different colours that do not overlap share one pass (first fit, from left to right), so a band that
  shows one row of a small sample needs a single pass;
* small holes in a piece are drawn over as empty sixels, which is shorter than moving the pen.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset

import numpy as np

cdef enum:
    HASHED = 2048
    SIDE = 33  # 32 levels of each channel, and a leading zero for the cumulative sums
    CELLS = SIDE * SIDE * SIDE
    HOLE = 4  # longest hole, in pixels, that is drawn over


# ---------------------------------------------------------------------------------------------------------------
# Few colours


def few_colours(const uint8_t[:, ::1] pixels, int limit):
    """Palette and indices of an image that has at most `limit` colours, in order of appearance.

    Parameters
    ----------
    pixels : (n, 3) uint8
    limit : int
        1 to 256.

    Returns
    -------
    tuple of ndarray, or None
        (colours, 3) uint8 and (n,) uint8; None if there are more colours.
    """
    cdef Py_ssize_t n = pixels.shape[0], i
    cdef uint32_t colour, slot
    cdef int count = 0
    cdef bint more = False
    cdef uint32_t keys[HASHED]
    cdef int32_t found[HASHED]
    palette_array = np.empty((limit, 3), np.uint8)
    index_array = np.empty(n, np.uint8)
    cdef uint8_t[:, ::1] palette = palette_array
    cdef uint8_t[::1] index = index_array
    with nogil:
        memset(found, 0xFF, sizeof(found))
        for i in range(n):
            colour = (<uint32_t> pixels[i, 0] << 16) | (<uint32_t> pixels[i, 1] << 8) | pixels[i, 2]
            slot = (colour * <uint32_t> 2654435761) >> 21
            while found[slot] >= 0 and keys[slot] != colour:
                slot = (slot + 1) & (HASHED - 1)
            if found[slot] < 0:
                if count == limit:
                    more = True
                    break
                keys[slot] = colour
                found[slot] = count
                palette[count, 0] = pixels[i, 0]
                palette[count, 1] = pixels[i, 1]
                palette[count, 2] = pixels[i, 2]
                count += 1
            index[i] = <uint8_t> found[slot]
    if more:
        return None
    return palette_array[:count].copy(), index_array


cdef struct Box:
    int r0, r1, g0, g1, b0, b1  # the cells (r0, r1] x (g0, g1] x (b0, b1]
    double spread


cdef inline int64_t over(const int64_t* sums, const Box* box) noexcept nogil:
    """Sum over a box, from cumulative sums."""
    cdef int r0 = box.r0 * SIDE * SIDE, r1 = box.r1 * SIDE * SIDE
    cdef int g0 = box.g0 * SIDE, g1 = box.g1 * SIDE, b0 = box.b0, b1 = box.b1
    return (
        sums[r1 + g1 + b1] - sums[r1 + g1 + b0] - sums[r1 + g0 + b1] + sums[r1 + g0 + b0]
        - sums[r0 + g1 + b1] + sums[r0 + g1 + b0] + sums[r0 + g0 + b1] - sums[r0 + g0 + b0]
    )


cdef inline double share(const int64_t* sums, const Box* box, int64_t* weight) noexcept nogil:
    """|sum of colours|^2 / number of pixels of a box; 0 for an empty one."""
    cdef double red, green, blue
    weight[0] = over(sums, box)
    if weight[0] == 0:
        return 0.0
    red = <double> over(sums + CELLS, box)
    green = <double> over(sums + 2 * CELLS, box)
    blue = <double> over(sums + 3 * CELLS, box)
    return (red * red + green * green + blue * blue) / <double> weight[0]


cdef inline void measure(const int64_t* sums, Box* box) noexcept nogil:
    """Sum of squared distances of a box's pixels to their mean; 0 if it is a single cell."""
    cdef int64_t weight
    cdef double part = share(sums, box, &weight)
    if (box.r1 - box.r0) * (box.g1 - box.g0) * (box.b1 - box.b0) == 1:
        box.spread = 0.0
    else:
        box.spread = <double> over(sums + 4 * CELLS, box) - part


cdef bint split(const int64_t* sums, Box* box, Box* other) noexcept nogil:
    """Cut a box where the two parts' spreads are least; the first best cut counts. False if it cannot be cut."""
    cdef Box one, two, best_one, best_two
    cdef double value, best = -1.0
    cdef int64_t weight
    cdef int axis, cut, low, high
    for axis in range(3):
        low, high = (
            (box.r0, box.r1) if axis == 0 else (box.g0, box.g1) if axis == 1 else (box.b0, box.b1)
        )
        for cut in range(low + 1, high):
            one = box[0]
            two = box[0]
            if axis == 0:
                one.r1 = cut
                two.r0 = cut
            elif axis == 1:
                one.g1 = cut
                two.g0 = cut
            else:
                one.b1 = cut
                two.b0 = cut
            value = share(sums, &one, &weight)
            if weight == 0:
                continue
            value += share(sums, &two, &weight)
            if weight == 0:
                continue
            if value > best:
                best = value
                best_one = one
                best_two = two
    if best < 0:
        return False
    box[0] = best_one
    other[0] = best_two
    return True


def quantise(const uint8_t[:, ::1] pixels, int limit):
    """Palette and indices of an image, of small squared error.

    The colour space is cut into boxes, always the box of largest squared error, there where the two parts' errors are
    least; sums over boxes come from cumulative moments of a 32 x 32 x 32 histogram (X. Wu, Efficient statistical
    computations for optimal color quantization, Graphics Gems II, 1991, p. 126-133).

    Parameters
    ----------
    pixels : (n, 3) uint8
    limit : int
        Most colours, 1 to 256.

    Returns
    -------
    tuple of ndarray
        (colours, 3) uint8 and (n,) uint8.
    """
    cdef Py_ssize_t n = pixels.shape[0], i
    cdef int r, g, b, at, part, count = 1, worst, j
    cdef int64_t red, green, blue, weight, line
    cdef int64_t* sums = <int64_t*> calloc(5 * CELLS, sizeof(int64_t))
    cdef uint8_t* owner = <uint8_t*> malloc(CELLS)
    cdef Box boxes[256]
    if sums == NULL or owner == NULL:
        free(sums)
        free(owner)
        raise MemoryError
    palette_array = np.empty((limit, 3), np.uint8)
    index_array = np.empty(n, np.uint8)
    cdef uint8_t[:, ::1] palette = palette_array
    cdef uint8_t[::1] index = index_array
    try:
        with nogil:
            for i in range(n):
                red, green, blue = pixels[i, 0], pixels[i, 1], pixels[i, 2]
                at = (((<int> red >> 3) + 1) * SIDE + (<int> green >> 3) + 1) * SIDE + (<int> blue >> 3) + 1
                sums[at] += 1
                sums[CELLS + at] += red
                sums[2 * CELLS + at] += green
                sums[3 * CELLS + at] += blue
                sums[4 * CELLS + at] += red * red + green * green + blue * blue
            for part in range(5):
                for r in range(1, SIDE):
                    for g in range(1, SIDE):
                        line = 0
                        at = part * CELLS + (r * SIDE + g) * SIDE
                        for b in range(1, SIDE):
                            line += sums[at + b]
                            sums[at + b] = (
                                line + sums[at + b - SIDE] + sums[at + b - SIDE * SIDE]
                                - sums[at + b - SIDE - SIDE * SIDE]
                            )
            boxes[0].r0 = boxes[0].g0 = boxes[0].b0 = 0
            boxes[0].r1 = boxes[0].g1 = boxes[0].b1 = SIDE - 1
            measure(sums, &boxes[0])
            while count < limit:
                worst = 0
                for j in range(1, count):
                    if boxes[j].spread > boxes[worst].spread:
                        worst = j
                if boxes[worst].spread <= 0:
                    break
                if split(sums, &boxes[worst], &boxes[count]):
                    measure(sums, &boxes[worst])
                    measure(sums, &boxes[count])
                    count += 1
                else:
                    boxes[worst].spread = 0.0  # all its pixels lie in one cell
            for j in range(count):
                weight = over(sums, &boxes[j])
                palette[j, 0] = <uint8_t> ((over(sums + CELLS, &boxes[j]) + weight // 2) // weight)
                palette[j, 1] = <uint8_t> ((over(sums + 2 * CELLS, &boxes[j]) + weight // 2) // weight)
                palette[j, 2] = <uint8_t> ((over(sums + 3 * CELLS, &boxes[j]) + weight // 2) // weight)
                for r in range(boxes[j].r0 + 1, boxes[j].r1 + 1):
                    for g in range(boxes[j].g0 + 1, boxes[j].g1 + 1):
                        at = (r * SIDE + g) * SIDE
                        memset(owner + at + boxes[j].b0 + 1, j, boxes[j].b1 - boxes[j].b0)
            for i in range(n):
                at = ((pixels[i, 0] >> 3) + 1) * SIDE * SIDE + ((pixels[i, 1] >> 3) + 1) * SIDE
                index[i] = owner[at + (pixels[i, 2] >> 3) + 1]
    finally:
        free(sums)
        free(owner)
    return palette_array[:count].copy(), index_array


cdef inline int distance(const uint8_t* pixel, const uint8_t* colour) noexcept nogil:
    cdef int red = <int> pixel[0] - colour[0], green = <int> pixel[1] - colour[1], blue = <int> pixel[2] - colour[2]
    return red * red + green * green + blue * blue


def calm(uint8_t[:, ::1] index, const uint8_t[:, ::1] pixels, const uint8_t[:, ::1] palette, int tolerance):
    """Give each pixel its left or upper neighbour's colour where that is hardly worse: runs get longer.

    Parameters
    ----------
    index : (height, width) uint8
        Colour numbers, changed in place.
    pixels : (height * width, 3) uint8
    palette : (colours, 3) uint8
    tolerance : int
        How much a pixel's squared error may grow.
    """
    cdef Py_ssize_t height = index.shape[0], width = index.shape[1], y, x
    cdef const uint8_t* pixel
    cdef int most, error, left
    with nogil:
        for y in range(height):
            for x in range(width):
                pixel = &pixels[y * width + x, 0]
                most = distance(pixel, &palette[index[y, x], 0]) + tolerance
                left = most + 1
                if x:
                    left = distance(pixel, &palette[index[y, x - 1], 0])
                error = distance(pixel, &palette[index[y - 1, x], 0]) if y else most + 1
                if left <= most and left <= error:
                    index[y, x] = index[y, x - 1]
                elif error <= most:
                    index[y, x] = index[y - 1, x]


# ---------------------------------------------------------------------------------------------------------------
# Escape data


cdef struct Piece:
    int32_t first, last  # columns
    int32_t next  # the piece that begins next, or -1
    uint8_t colour


cdef inline char* put_number(char* out, int32_t value) noexcept nogil:
    cdef char digits[12]
    cdef int length = 0
    while True:
        digits[length] = <char> (48 + value % 10)
        length += 1
        value //= 10
        if value == 0:
            break
    while length:
        length -= 1
        out[0] = digits[length]
        out += 1
    return out


cdef inline char* put_run(char* out, int32_t length, uint8_t mask) noexcept nogil:
    """`length` sixels of one pattern."""
    if length > 3:
        out[0] = 33  # !
        out = put_number(out + 1, length)
        length = 1
    while length > 0:
        out[0] = <char> (63 + mask)
        out += 1
        length -= 1
    return out


def pack(const uint8_t[:, ::1] index, const int32_t[::1] edges, const int32_t[::1] lines):
    """Bands of sixels of an indexed image whose columns and rows are repeated.

    Parameters
    ----------
    index : (height, width) uint8
        Colour numbers.
    edges : (width + 1,) int32
        Column c covers the pixels from edges[c] up to edges[c + 1]; rising, starting at 0; columns may be empty.
    lines : (pixel height,) int32
        The row of `index` that each line of pixels shows, rising.

    Returns
    -------
    bytes
        Bands, separated by ``-``; without palette, raster attributes and introducer.
    """
    cdef int32_t width = <int32_t> index.shape[1], height = <int32_t> lines.shape[0]
    cdef int32_t top, row, c, g, groups, last_groups = -1, count, head, at, before, x, run, i
    cdef int32_t rows[6]
    cdef int32_t last_rows[6]
    cdef uint8_t bits[6]
    cdef uint8_t last_bits[6]
    cdef uint8_t k, mask, run_mask
    cdef int colour
    cdef int32_t opened[256]  # the piece of each colour that may still grow
    cdef bint same
    cdef size_t room = 1 << 16, used, need, band_start = 0, band_length = 0
    cdef char* data = <char*> malloc(room)
    cdef char* out
    cdef char* grown
    cdef uint8_t* masks = <uint8_t*> calloc(<size_t> 256 * width, 1)
    cdef Piece* pieces = <Piece*> malloc(<size_t> 6 * width * sizeof(Piece))
    # Each piece: colour number and pen move; each sixel column of each colour: a run; each piece may need a pass.
    cdef size_t most = <size_t> 6 * width * (5 + 8 + 8 + 1) + 64
    used = 0
    if data == NULL or masks == NULL or pieces == NULL:
        free(data)
        free(masks)
        free(pieces)
        raise MemoryError
    try:
        with nogil:
            top = 0
            while top < height:
                if top:
                    data[used] = 45  # -
                    used += 1
                groups = 0
                for i in range(min(6, height - top)):
                    row = lines[top + i]
                    if groups and rows[groups - 1] == row:
                        bits[groups - 1] |= <uint8_t> (1 << i)
                    else:
                        rows[groups] = row
                        bits[groups] = <uint8_t> (1 << i)
                        groups += 1
                top += 6
                same = groups == last_groups
                if same:
                    for g in range(groups):
                        same = same and rows[g] == last_rows[g] and bits[g] == last_bits[g]
                need = used + (band_length if same else most) + 64
                if need > room:
                    room = need * 2
                    grown = <char*> realloc(data, room)
                    if grown == NULL:
                        with gil:
                            raise MemoryError
                    data = grown
                if same:
                    memcpy(data + used, data + band_start, band_length)
                    band_start = used
                    used += band_length
                    continue
                last_groups = groups
                memcpy(last_rows, rows, sizeof(rows))
                memcpy(last_bits, bits, sizeof(bits))

                # Pieces: stretches of one colour without long holes, in order of their first column.
                count = 0
                memset(opened, 0xFF, sizeof(opened))
                for c in range(width):
                    if edges[c] == edges[c + 1]:
                        continue
                    for g in range(groups):
                        k = index[rows[g], c]
                        if masks[<size_t> k * width + c] == 0:
                            at = opened[k]
                            if at >= 0 and edges[c] - edges[pieces[at].last + 1] <= HOLE:
                                pieces[at].last = c
                            else:
                                pieces[count].first = c
                                pieces[count].last = c
                                pieces[count].colour = k
                                pieces[count].next = count + 1
                                opened[k] = count
                                count += 1
                        masks[<size_t> k * width + c] |= bits[g]
                if count:
                    pieces[count - 1].next = -1

                # Passes: in each, every piece that begins where the pen is or later.
                out = data + used
                head = 0 if count else -1
                colour = -1
                while head >= 0:
                    x = 0
                    at = head
                    before = -1
                    while at >= 0:
                        if edges[pieces[at].first] < x:
                            before = at
                            at = pieces[at].next
                            continue
                        k = pieces[at].colour
                        if k != colour:
                            out[0] = 35  # #
                            out = put_number(out + 1, k)
                            colour = k
                        run = edges[pieces[at].first] - x
                        run_mask = 0
                        for c in range(pieces[at].first, pieces[at].last + 1):
                            mask = masks[<size_t> k * width + c]
                            masks[<size_t> k * width + c] = 0
                            if mask != run_mask:
                                if edges[c] == edges[c + 1]:
                                    continue
                                out = put_run(out, run, run_mask)
                                run = 0
                                run_mask = mask
                            run += edges[c + 1] - edges[c]
                        out = put_run(out, run, run_mask)
                        x = edges[pieces[at].last + 1]
                        at = pieces[at].next
                        if before < 0:
                            head = at
                        else:
                            pieces[before].next = at
                    if head >= 0:
                        out[0] = 36  # $
                        out += 1
                band_start = used
                band_length = out - data - used
                used += band_length
        return data[:used]
    finally:
        free(data)
        free(masks)
        free(pieces)
