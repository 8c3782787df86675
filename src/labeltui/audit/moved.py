"""Why a training run moved the flags, where it moved them by more than a factor."""

from __future__ import annotations

from collections.abc import Mapping

from labeltui.text import safe

MOVED = 2.0
"""Factor between the numbers of flags before and after, above which a reason is given."""
_CHANGED = 1.25  # of an estimate that counts as a reason


def reason(
    before: int, after: int, old: Mapping[str, object], new: Mapping[str, object], in_bulk: int
) -> str:
    """Say by which factor the flags of undecided samples moved, and why; empty where they stayed within `MOVED`.

    Parameters
    ----------
    before, after : int
        Flagged samples among those that are undecided now.
    old, new : mapping
        Attributes of the blend's scores before and after the run.
    in_bulk : int
        Labels that are now changed by decisions in bulk or by a program.
    """
    if max(before, after) <= MOVED * max(1, min(before, after)):
        return ""
    times = max(before, after) / max(1, min(before, after))
    causes = []
    rates = [_number(attrs, "error_rate") for attrs in (old, new)]
    if max(rates) > _CHANGED * max(min(rates), 1e-9):
        causes.append(f"about {rates[1]:.1%} of the labels now seem wrong, {rates[0]:.1%} did before")
    decisions = [int(_number(attrs, "calibration_checks")) for attrs in (old, new)]
    if decisions[1] > decisions[0]:
        causes.append(f"P(wrong) is calibrated by {decisions[1]:,} decisions, {decisions[0]:,} before")
    names = [{key for key in attrs if key.startswith("weight_")} for attrs in (old, new)]
    for what, keys in (("takes part now", names[1] - names[0]), ("takes no part now", names[0] - names[1])):
        causes += [f"{safe(key.removeprefix('weight_'))} {what}" for key in sorted(keys)]
    if in_bulk:
        causes.append(
            f"{in_bulk:,} labels were changed in bulk or by a program, which nobody looked at one by one"
        )
    word = "more" if after > before else "fewer"
    why = "; ".join(causes) or "the classifier changed"
    return f"{times:.1f} times {word} flags ({before:,}, now {after:,}): {why}"


def _number(attrs: Mapping[str, object], key: str) -> float:
    value = attrs.get(key, 0.0)
    return float(value) if isinstance(value, int | float) else 0.0
