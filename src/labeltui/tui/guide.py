"""What the screen says to somebody who is new, or stuck."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from labeltui.text import probability, safe
from labeltui.tui.layout import Piece, fit

if TYPE_CHECKING:
    from labeltui.audit import Audit
    from labeltui.studies.estimation import NoiseEstimate
    from labeltui.tui.actions import Keymap

LEAST = 5
"""Classes that the noise budget lists."""

Text = list[list[Piece]]

WORDS = {
    "given": "the label that came with the data set",
    "suggested": "the label that all detectors combined find most probable; given → suggested",
    "flag": "a sample whose given label is wrong with more than a certain chance, at least one third",
    "score": "label score: estimated probability that the given label is correct, low is bad",
    "P(given)": "the same by one detector; – where it has no evidence",
    "overlap W": "how alike the neighbourhoods of two classes are, 0 to 1; of one class: the sum over all others",
    "CSG": "one number for how much all classes overlap; it falls when labels are made to agree with the embedding",
    "proposes": "the label that a detector would give",
    "cosine": "cosine similarity of two embeddings, 1 for the same direction",
    "neighbours": "the samples with the largest cosine similarity",
    "✎": "a changed label",
}
"""What the words on the screen mean."""


def _wrapped(text: str, width: int) -> Text:
    return [[(line, "plain")] for line in textwrap.wrap(text, width)]


def _keys(rows: list[tuple[str, str]], width: int) -> Text:
    lines: Text = []
    for key, text in rows:
        for part, line in enumerate(textwrap.wrap(text, max(16, width - 10))):
            lines.append([(fit("" if part else f"[{key}]", 9), "key"), (" " + line, "plain")])
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
        "Left: the classes, those that overlap most first. Middle: the queue, given → suggested class, the lowest "
        "label score first. Right: the image, and why it is flagged."
    )
    return [
        *_wrapped(opening, width),
        [],
        [("Is the given label right?", "title")],
        *_keys(
            [
                (key("keep"), "yes, keep it"),
                (key("suggestion-1"), "no: relabel to the suggested class with this number"),
                (key("class"), "no: it is another class, found by typing"),
                (key("exclude"), "it belongs to no class"),
                (key("unsure"), "I cannot tell"),
                (key("undo"), "undo the last decision"),
            ],
            width,
        ),
        [],
        *_wrapped("Every decision is saved at once, and the data itself is never changed.", width),
        [],
        [("Later", "title")],
        *_keys(
            [
                (key("train"), "train on your decisions and re-rank; it also starts by itself"),
                (key("export"), "write the corrected labels to a CSV file"),
                (key("palette"), "everything else, found by typing"),
                (key("help"), "all keys"),
            ],
            width,
        ),
    ]


def words(width: int) -> list[Text]:
    """Return the meaning of each word on the screen."""
    return [
        [
            [(fit("" if part else word, 12), "strong"), (" " + line, "plain")]
            for part, line in enumerate(textwrap.wrap(meaning, max(16, width - 13)))
        ]
        for word, meaning in WORDS.items()
    ]


def noise_budget(noise: NoiseEstimate, path: str, width: int) -> Text:
    """Return how noisy the labels are and what follows for reviewing and training.

    Parameters
    ----------
    noise : NoiseEstimate
    path : str
        The audit as a shell needs it.
    width : int
        Cells.

    Returns
    -------
    Text
    """
    rate = f"Wrong among {noise.samples:,} given labels: {noise.wrong_now()}."
    if not noise.checks:
        rate += " Random checks make it an interval."
    dilution = f"That is as {noise.dilution()} noisy labels beside each clean one (alpha = q / (1 - q))."
    lines = [
        *_wrapped(f"{rate} {dilution}", width),
        [],
        [("The next reviews, in the order of the queue", "title")],
    ]
    lines.append([(f"{'reviews':>9}{'correct about':>16}{'wrong then':>22}", "faint")])
    for each in noise.reviewing:
        row = f"{each.reviews:>9,}{each.corrected:>16,.1f}{noise.wrong_after(each):>22}"
        lines.append([(row, "plain")])
    lines += _wrapped(
        f"After {noise.enough:,} reviews the next one is expected to correct fewer than {noise.epsilon:g} labels.",
        width,
    )
    training = noise.training
    lines += [
        [],
        [("Training on these labels", "title")],
        *_wrapped(
            f"A batch holds {training.right_per_batch:.0%} right labels. Defaults for that, each yours to change:",
            width,
        ),
        [(f"  labeltui train {path} \\", "strong")],
        [(f"    --batch-size {training.batch} --learning-rate {training.learning_rate:.2g} \\", "strong")],
        [(f"    --label-smoothing {training.label_smoothing:.2f}", "strong")],
        [],
        [("Classes whose right label leads least", "title")],
        [(f"{'lead':>6}  {'class':<24}most frequent wrong label", "faint")],
    ]
    rivals = noise.rivals()
    for c in np.argsort(noise.gaps, kind="stable")[:LEAST].tolist():
        rival = rivals[c]
        shown = f"{fit(noise.classes[c], 24)}{noise.classes[rival]} {probability(float(noise.transition[c, rival]))}"
        lines.append([(f"{noise.gaps[c]:>6.2f}  {shown}", "bad" if noise.gaps[c] <= 0 else "plain")])
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
    palette = keymap.hint("palette").strip("[]")
    return [
        *_wrapped("The images are not where the scan saw them:", width),
        [("  " + safe(str(audit.images.root), max(20, width - 2)), "strong")],
        [],
        *_wrapped(
            "Decisions, flags, evidence and export work without them. To see them, say where they lie now:",
            width,
        ),
        [],
        *_keys(
            [
                (palette, "then type: where the images are"),
            ],
            width,
        ),
        *_wrapped(f"Or start again with: labeltui review {safe(audit.path.name)} --source DIRECTORY", width),
    ]
