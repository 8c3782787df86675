"""What the screen says to somebody who is new, or stuck."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from labeltui.text import safe
from labeltui.tui.widgets.paint import Piece, fit

if TYPE_CHECKING:
    from labeltui.audit import Audit
    from labeltui.tui.actions import Keymap

Text = list[list[Piece]]

WORDS = {
    "given": "the label that came with the data set",
    "flag": "a sample whose given label is not the most probable one",
    "score": "how probably the given label is right: 0 to 1, low is bad",
    "overlap": "how much a class's neighbours in the embedding look like those of other classes, summed over them",
    "CSG": "one number for how entangled all classes are; it falls when labels are made to agree with the embedding",
    "votes": "the label that each detector proposes, with its own P(given label right)",
    "neighbours": "the samples that are most alike in the embedding",
}
"""What the words on the screen mean."""


def _wrapped(text: str, width: int) -> Text:
    return [[(line, "plain")] for line in textwrap.wrap(text, width)]


def _keys(rows: list[tuple[str, str]], width: int) -> Text:
    lines: Text = []
    for key, text in rows:
        for part, line in enumerate(textwrap.wrap(text, max(16, width - 10))):
            lines.append([(fit("" if part else key, 9), "key"), (" " + line, "plain")])
    return lines


def welcome(audit: Audit, keymap: Keymap, width: int) -> Text:
    """Return the text of the first start.

    Parameters
    ----------
    audit : Audit
    keymap : Keymap
    width : int
        Cells.

    Returns
    -------
    Text
    """
    summary = audit.summary()

    def key(id_: str) -> str:
        from labeltui.tui.actions import BY_ID

        return keymap.shown(BY_ID[id_])

    opening = (
        f"This audit of {summary.samples:,} samples holds {summary.flags:,} whose label is probably wrong. "
        "Left stand the classes, those that overlap most first; in the middle the queue, the worst sample first; "
        "right the sample with its nearest neighbours and why it is here."
    )
    return [
        *_wrapped(opening, width),
        [],
        [("Is the given label right?", "title")],
        *_keys(
            [
                (key("keep"), "yes, keep it"),
                (key("suggestion-1"), "no: take the suggested class with this number"),
                (key("class"), "no: it is another class, found by typing"),
                (key("exclude"), "it belongs to no class"),
                (key("unsure"), "I cannot tell"),
                (key("undo"), "take the last decision back"),
            ],
            width,
        ),
        [],
        *_wrapped("Every decision is saved at once, and the data itself is never changed.", width),
        [],
        [("Later", "title")],
        *_keys(
            [
                (key("train"), "learn from your decisions and look again; it also starts by itself"),
                (key("export"), "write the corrected labels to a CSV file"),
                (key("palette"), "everything else, found by typing"),
                (key("help"), "all keys"),
            ],
            width,
        ),
    ]


def words(width: int) -> Text:
    """Return the meaning of the words on the screen."""
    lines: Text = []
    for word, meaning in WORDS.items():
        for part, line in enumerate(textwrap.wrap(meaning, max(16, width - 13))):
            lines.append([(fit("" if part else word, 12), "strong"), (" " + line, "plain")])
    return lines


def missing_images(audit: Audit, keymap: Keymap, width: int) -> Text:
    """Return what to do when the images are not where the scan found them.

    Parameters
    ----------
    audit : Audit
    keymap : Keymap
    width : int
        Cells.

    Returns
    -------
    Text
    """
    palette = keymap.hint("palette")
    return [
        *_wrapped("The images are not where the scan saw them:", width),
        [("  " + safe(str(audit.source_root), max(20, width - 2)), "strong")],
        [],
        *_wrapped(
            "Decisions, flags, evidence and export work without them. To see them, say where they lie now:",
            width,
        ),
        [],
        *_keys(
            [
                (palette, "then type: where the images are"),
                ("or", f"start again with: labeltui review {safe(audit.path.name)} --source DIRECTORY"),
            ],
            width,
        ),
    ]
