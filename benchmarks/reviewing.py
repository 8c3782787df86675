"""Reviewing, simulated by people who err: labels corrected against labels looked at.

    python benchmarks/reviewing.py --features emb.npy --clean clean.npy --counts counts.npy
    python benchmarks/reviewing.py --quick     # digits, a made reviewer who errs where classes look alike

`--counts` holds how many people gave each label to each image, (N, K), as CIFAR-10H does for the test images of
CIFAR-10 (Peterson et al., ICCV 2019). Wrong labels are drawn from what people gave, 15 % of all. A look draws the
answer of one person, or of three, of whom two must agree (else the sample is put aside as ambiguous, and keeps its
label). Orders:

* ours: all samples, worst first, trained again after every 100 looks with what was decided;
* ours, not trained again;
* cleanlab's: normalised margin of the same out-of-fold classifier;
* random.

Corrected are the labels that are right now and were not, less those that a reviewer made wrong. Then: every flag
accepted in one bulk step against the same flags decided by a reviewer without fault, trained again, and how many of
the new flags are right. Clean labels draw the errors and measure.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import _ours
import _worlds
from _common import Report, parser
from _worlds import Images
from labeltui import detect, head, noise

RATE = 0.15
BUDGETS = (0.05, 0.1, 0.2)
STEP = 100
PARTS = ("neighbours", "nearest", "head", "corrected")

Ints = NDArray[np.int32]
Reviewer = Callable[[int], int]
"""Returns the label that a look at a sample gives it, -1 = ambiguous."""


def options() -> argparse.Namespace:
    found = parser(__doc__)
    _worlds.add_options(found)
    found.add_argument("--counts", type=Path, help="how many people gave each label, .npy, (N, K)")
    found.add_argument("--seeds", type=int, default=3)
    found.add_argument("--step", type=int, default=STEP, help="looks after which to train again")
    return found.parse_args()


def data(chosen: argparse.Namespace) -> tuple[Images, NDArray[np.float64]]:
    """The images and P(label) of a person's answer."""
    whole = None if chosen.quick else _worlds.given(chosen)
    if whole is not None and chosen.counts:
        counts = np.load(chosen.counts)[: len(whole.clean)].astype(np.float64)
    else:
        whole = _worlds.digits()
        counts = np.full((len(whole.clean), int(whole.clean.max()) + 1), 0.1)
        np.add.at(
            counts, (np.repeat(np.arange(len(counts)), 10), whole.clean[whole.indices[:, :10]].ravel()), 1.0
        )
        counts[np.arange(len(counts)), whole.clean] += 20.0
    return whole, counts / counts.sum(axis=1, keepdims=True)


def noisy(of: Images, answers: NDArray[np.float64], seed: int) -> Ints:
    """Labels of which `RATE` are wrong, as people are: which classes, and which samples."""
    k = answers.shape[1]
    smooth = (answers + 0.002) / (1 + 0.002 * k)
    mistakes = np.zeros((k, k))
    np.add.at(mistakes, of.clean, smooth)
    np.fill_diagonal(mistakes, 0.0)
    size = np.bincount(of.clean, minlength=k)
    mistakes *= RATE * len(of.clean) / mistakes.sum() / np.maximum(size, 1)[:, None]
    mistakes += np.diag(1.0 - mistakes.sum(axis=1))
    return noise.matched(of.clean, mistakes, smooth, seed).labels


def reviewer(answers: NDArray[np.float64], of_three: bool, seed: int) -> Reviewer:
    """Each sample's answer is drawn by its own number, so that every order meets the same person."""

    def look(i: int) -> int:
        votes = np.random.default_rng([seed, i]).choice(len(answers[i]), 3 if of_three else 1, p=answers[i])
        values, times = np.unique(votes, return_counts=True)
        return int(values[times.argmax()]) if len(votes) == 1 or times.max() > 1 else -1

    return look


def scores(of: Images, given: Ints, current: Ints, checked: NDArray[np.int8], seed: int) -> Any:
    """Train the head on the labels as they are now and run the detectors on those given."""
    k = int(of.clean.max()) + 1
    fold = head.folds(current, None, None, _ours.FOLDS, seed)
    p = head.out_of_fold(of.X, current, fold, k, seed=seed).p
    facts = detect.DetectorInputs(
        current, k, np.ones(len(given), dtype=bool), of.indices, of.similarity, None, p,
        embeddings=of.X, fold=fold, given=given, checked=checked, seed=seed,
    )  # fmt: skip
    return detect.run(facts, only=PARTS), p


def review(
    of: Images, given: Ints, look: Reviewer, order: NDArray[np.int64] | None, step: int, seed: int
) -> tuple[list[int], int]:
    """Return the net number corrected after each look, and how many samples were ambiguous.

    Without an `order` the queue is ours, and trained again after every `step` looks.
    """
    current, checked = given.copy(), np.full(len(given), -1, dtype=np.int8)
    seen = np.zeros(len(given), dtype=bool)
    corrected, ambiguous, gained = 0, 0, []
    most = round(BUDGETS[-1] * len(given))
    again = order is None
    while len(gained) < most:
        if again:
            found, _ = scores(of, given, current, checked, seed)
            order = np.argsort(found.blend, kind="stable")
        assert order is not None
        for i in order[~seen[order]][: step if again else most - len(gained)].tolist():
            seen[i] = True
            answer = look(i)
            if answer < 0:
                ambiguous += 1
            else:
                corrected += int(answer == of.clean[i]) - int(current[i] == of.clean[i])
                current[i], checked[i] = answer, answer == given[i]
            gained.append(corrected)
    return gained[:most], ambiguous


def kappa(of: Images, answers: NDArray[np.float64], seed: int) -> float:
    """Cohen's kappa of two reviewers who look at all samples."""
    first, second = (
        np.array([reviewer(answers, False, seed + person)(i) for i in range(len(of.clean))])
        for person in (1000, 2000)
    )
    k = answers.shape[1]
    chance = float(np.bincount(first, minlength=k) @ np.bincount(second, minlength=k)) / len(first) ** 2
    return (float((first == second).mean()) - chance) / (1.0 - chance)


def measure(of: Images, answers: NDArray[np.float64], step: int, seed: int) -> dict[str, Any]:
    given = noisy(of, answers, seed)
    wrong = given != of.clean
    unseen = np.full(len(given), -1, dtype=np.int8)
    first, p = scores(of, given, given, unseen, seed)
    own = p[np.arange(len(p)), given]
    other = p.copy()
    other[np.arange(len(p)), given] = -1.0
    orders = {
        "ours": None,
        "ours, not trained again": np.argsort(first.blend, kind="stable"),
        "cleanlab's order": np.argsort(own - other.max(axis=1), kind="stable"),
        "random": np.random.default_rng(seed).permutation(len(given)),
    }
    found: dict[str, Any] = {
        "wrong": int(wrong.sum()), "samples": len(given), "kappa": kappa(of, answers, seed)
    }  # fmt: skip
    for title, of_three in (("one", False), ("three", True)):
        look = reviewer(answers, of_three, seed)
        for name, order in orders.items():
            gained, ambiguous = review(of, given, look, order, step, seed)
            found[f"{name}, {title}"] = {
                "corrected": [gained[round(share * len(given)) - 1] for share in BUDGETS],
                "area": float(np.mean(gained)) / max(int(wrong.sum()), 1),
                "ambiguous": ambiguous,
            }
    flags = first.suggest_label[:, 0] != given
    found["flags"], found["right flags"] = int(flags.sum()), int((flags & wrong).sum())
    for name in ("in bulk", "truthfully"):
        current, checked = given.copy(), unseen.copy()
        current[flags] = first.suggest_label[flags, 0] if name == "in bulk" else of.clean[flags]
        if name == "truthfully":
            checked[flags] = ~wrong[flags]
        later, _ = scores(of, given, current, checked, seed)
        new = (later.suggest_label[:, 0] != given) & ~flags
        found[name] = {"flags": int(new.sum()), "right": int((new & wrong).sum())}
    return found


def main() -> None:
    chosen = options()
    report = Report("reviewing", chosen)
    of, answers = data(chosen)
    cells = []
    for seed in range(1 if chosen.quick else chosen.seeds):
        title = f"{of.name}, seed {seed}"
        if report.wanted(title):
            step = len(of.clean) // 10 if chosen.quick else chosen.step
            cell = report.cell(
                title,
                lambda seed=seed, step=step: measure(of, answers, step, seed),
                *_ours.DETECT,
                digest=of.digest,
                answers=float((answers**2).sum()),
                step=step,
            )
            cells.append(cell)
    if not cells:
        report.finish()
        return
    for person in ("one", "three"):
        for place, share in enumerate(BUDGETS):
            gained = {
                name: float(np.mean([cell[f"{name}, {person}"]["corrected"][place] for cell in cells]))
                for name in ("ours", "ours, not trained again", "cleanlab's order", "random")
            }
            beside = ", ".join(f"{name} {value:.0f}" for name, value in gained.items() if name != "ours")
            report.add(
                f"{of.name}: corrected in the first {share:.0%} of looks, answers of {person}",
                gained["ours"],
                "labels",
                target=gained["cleanlab's order"],
                peer=beside,
            )
            if place == 0:
                report.add(
                    f"{of.name}: times random order, first {share:.0%}, answers of {person}",
                    gained["ours"] / max(gained["random"], 1.0), "x", target=5.0,
                )  # fmt: skip
        ambiguous = float(np.mean([cell[f"ours, {person}"]["ambiguous"] for cell in cells]))
        report.add(f"{of.name}: put aside as ambiguous, answers of {person}", ambiguous, "samples")
    report.add(f"{of.name}: kappa of two reviewers", float(np.mean([cell["kappa"] for cell in cells])), "")
    fractions = {}
    for name in ("truthfully", "in bulk"):
        flags, right = (float(np.mean([cell[name][key] for cell in cells])) for key in ("flags", "right"))
        fractions[name] = right / max(flags, 1.0)
        report.add(
            f"{of.name}: right among new flags, after all flags were decided {name}",
            fractions[name],
            "",
            target=fractions["truthfully"] / 2 if name == "in bulk" else None,
            peer=f"{right:.0f} of {flags:.0f}",
        )
    report.finish()


if __name__ == "__main__":
    main()
