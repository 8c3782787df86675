"""Half blocks: rows of cells, each of two dots one above the other, as text with as few colour changes as it takes."""

from libc.stdint cimport int32_t
from libc.stdlib cimport free, malloc

TRUECOLOR, INDEXED, SIXTEEN = 0, 1, 2

cdef enum:
    # Of one cell: "ESC [", two colours of "38;2;255;255;255" with ";" between, "m" and a glyph of three bytes.
    LONGEST = 2 + 16 + 1 + 16 + 1 + 3


cdef inline char* put_number(char* out, int32_t value) noexcept nogil:
    if value >= 100:
        out[0] = <char> (48 + value // 100)
        out += 1
    if value >= 10:
        out[0] = <char> (48 + value // 10 % 10)
        out += 1
    out[0] = <char> (48 + value % 10)
    return out + 1


cdef inline char* put_colour(char* out, int32_t code, int32_t ground, int kind) noexcept nogil:
    """SGR parameters of a colour as foreground (`ground` 0) or as background (10)."""
    if kind == 2:
        return put_number(out, code + ground + (30 if code < 8 else 82))
    out = put_number(out, 38 + ground)
    out[0] = 59  # ;
    if kind == 1:
        out[1] = 53  # 5
        out[2] = 59
        return put_number(out + 3, code)
    out[1] = 50  # 2
    out[2] = 59
    out = put_number(out + 3, code >> 16)
    out[0] = 59
    out = put_number(out + 1, code >> 8 & 255)
    out[0] = 59
    return put_number(out + 1, code & 255)


cdef char* put_row(char* out, const int32_t* upper, const int32_t* lower, Py_ssize_t width, int kind) noexcept nogil:
    cdef int32_t front = -1, back = -1, fore, ground  # what the terminal's pen holds now
    cdef Py_ssize_t x
    cdef char glyph
    for x in range(width):
        # Of all ways to draw the cell take the one that changes least; the glyphs are U+2580, U+2584 and U+2588.
        if upper[x] == lower[x]:
            if back != upper[x] and front == upper[x]:
                out[0], out[1], out[2] = <char> 0xE2, <char> 0x96, <char> 0x88
                out += 3
                continue
            fore, ground, glyph = front, upper[x], 32
        elif (front == lower[x]) + (back == upper[x]) > (front == upper[x]) + (back == lower[x]):
            fore, ground, glyph = lower[x], upper[x], <char> 0x84
        else:
            fore, ground, glyph = upper[x], lower[x], <char> 0x80
        if front != fore or back != ground:
            out[0], out[1] = 27, 91  # ESC [
            out += 2
            if front != fore:
                out = put_colour(out, fore, 0, kind)
                if back != ground:
                    out[0] = 59  # ;
                    out += 1
            if back != ground:
                out = put_colour(out, ground, 10, kind)
            out[0] = 109  # m
            out += 1
            front, back = fore, ground
        if glyph != 32:
            out[0], out[1] = <char> 0xE2, <char> 0x96
            out += 2
        out[0] = glyph
        out += 1
    out[0], out[1], out[2], out[3] = 27, 91, 48, 109  # ESC [0m
    return out + 4


def pack(const int32_t[:, ::1] codes, int kind):
    """Rows of half blocks.

    Parameters
    ----------
    codes : (2 rows, width) int32
        Colours of the dots: 0xRRGGBB, or numbers of the terminal's colours.
    kind : int
        `TRUECOLOR`, `INDEXED` (256 colours) or `SIXTEEN`.

    Returns
    -------
    list of str
        Text of each row of cells; it ends with the style reset.
    """
    cdef Py_ssize_t rows = codes.shape[0] // 2, width = codes.shape[1], y
    cdef char* out = <char*> malloc(LONGEST * width + 4)
    cdef char* end
    if out == NULL:
        raise MemoryError
    lines = []
    try:
        for y in range(rows):
            with nogil:
                end = put_row(out, &codes[2 * y, 0], &codes[2 * y + 1, 0], width, kind)
            lines.append((<bytes> out[: end - out]).decode())
        return lines
    finally:
        free(out)
