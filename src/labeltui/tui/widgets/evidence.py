"""Why a sample is flagged: the table of detectors, and the reasons in a few words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len

from labeltui.text import NO_EVIDENCE, fraction, probability
from labeltui.tui.layout import Piece, fit, fit_end
from labeltui.tui.session import Session

if TYPE_CHECKING:
    from labeltui.audit import Audit, Evidence, Neighbour, Vote

PLAIN = {
    "blend": "combined",
    "centroids": "centroids",
    "cleannet": "prototypes",
    "confident": "margin",
    "corrected": "corrected",
    "csg": "overlap",
    "dynamics": "training",
    "given_probs": "your model",
    "head": "classifier",
    "nearest": "10 nearest",
    "neighbours": "50 nearest",
    "propagation": "propagated",
    "tuned": "fine-tuned",
}
"""Names of at most ten cells, for where the titles of detectors do not fit."""
SHORT = 10
LIST_WIDTH = 64
"""Cells of a line of a list; a longer one is hard to follow."""


def evidence_table(audit: Audit, votes: Sequence[Vote], width: int, columns: int = 1) -> list[list[Piece]]:
    """Return one line a detector: its name, the label it proposes, and P(given label).

    Parameters
    ----------
    audit : Audit
    votes : sequence of Vote
        As `Audit.evidence` gives them.
    width : int
        Cells of a line.
    columns : int
        How many detectors stand side by side, read downwards.
    """
    titles = audit.detectors()
    room = (width - columns) // columns
    longest = max(
        (cell_len(audit.names[vote.proposes]) for vote in votes if vote.proposes is not None), default=1
    )
    names = max((cell_len(titles[vote.detector]) for vote in votes), default=SHORT)
    last = 8 if columns == 1 else 4
    longest = max(longest, len("proposes"))
    plain = names + 1 + min(longest, 12) + 1 + last > room
    if plain:
        names = SHORT
    proposes = room - names - last - 2
    heading = ("detector", "proposes", "P(given)") if columns == 1 else ("detector", "proposes", "P")
    rows = [_cells(heading, (names, proposes, last), ("faint", "faint", "faint"))]
    for vote in votes:
        detector = PLAIN.get(vote.detector, vote.detector) if plain else titles[vote.detector]
        label = NO_EVIDENCE if vote.proposes is None else audit.names[vote.proposes]
        strong = "strong" if vote.detector == "blend" else "plain"
        styles = (strong, "faint" if vote.proposes is None else "link", strong)
        rows.append(_cells((detector, label, probability(vote.score)), (names, proposes, last), styles))
    if columns == 1:
        return rows
    deep = -(-(len(rows) - 1) // columns)
    lines = []
    for at in range(deep + 1):
        line: list[Piece] = []
        for column in range(columns):
            row = 0 if at == 0 else at + column * deep
            if row < len(rows):
                line += [(" " if column else "", "plain"), *rows[row]]
        lines.append(line)
    return lines


def _cells(texts: Sequence[str], widths: Sequence[int], styles: Sequence[str]) -> list[Piece]:
    (first, second, third), (a, b, c) = texts, widths
    return [
        (fit(first, a) + " ", styles[0]),
        (fit(second, b) + " ", styles[1]),
        (fit(third, c, right=True), styles[2]),
    ]


def neighbour_lines(
    session: Session, neighbours: Sequence[Neighbour], width: int, rows: int
) -> list[list[Piece]]:
    """Return the nearest samples as a list of at most `rows` lines: id, label, and cosine similarity.

    Parameters
    ----------
    session : Session
    neighbours : sequence of Neighbour
    width : int
        Cells.
    rows : int
        Largest number of lines.

    Returns
    -------
    list of list of Piece
    """
    audit = session.audit
    width = min(width - 1, LIST_WIDTH)
    what = "cosine similarity" if width >= 44 else "cosine"
    label_width = min(16, max(6, width // 4))
    names = width - label_width - len(what) - 2
    lines: list[list[Piece]] = [
        [(fit("id", names + 1) + fit("label", label_width + 1) + what, "faint")],
    ]
    for near in neighbours[: max(0, rows - 1)]:
        lines.append(
            [
                (fit_end(audit.sample_name(near.index), names) + " ", "plain"),
                (session.cut(session.name(near.label), label_width) + " ", "link"),
                (fit(fraction(near.similarity), len(what), right=True), "plain"),
            ]
        )
    return lines


def short_reasons(session: Session, evidence: Evidence, width: int) -> list[str]:
    """Return the reasons in one line of `width` cells each; names of classes are shortened to fit.

    Parameters
    ----------
    session : Session
    evidence : Evidence
    width : int
        Cells.

    Returns
    -------
    list of str
    """
    audit = session.audit
    lines = []
    if evidence.group:
        count = len(evidence.group)
        lines.append(f"{count} more duplicate{'' if count == 1 else 's'}")
    votes = evidence.votes[:-1]
    near = [neighbour.label for neighbour in evidence.neighbours if neighbour.label >= 0]
    for what, labels, of in (
        ("detectors", [vote.proposes for vote in votes if vote.proposes is not None], len(votes)),
        ("nearest", near, len(near)),
    ):
        for label, count in Counter(labels).most_common(1):
            start = f"{count} of {of} {what}: "
            name = audit.names[label]
            lines.append(start + session.cut(name, min(cell_len(name), width - len(start))))
    if evidence.pair_overlap is not None:
        lines.append(f"overlap W of both {fraction(evidence.pair_overlap)}")
    return lines
