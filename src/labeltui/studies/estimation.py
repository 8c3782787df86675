"""How noisy an audit's labels are, and what that means for training and reviewing.

With alpha = q / (1 - q) noisy labels beside each clean one (Rolnick et al., arXiv 1705.10694): a batch of b samples
holds b / (1 + alpha) right labels, the signal-to-noise ratio of its gradient falls as sqrt(b) / (1 + alpha), and the
loss of an infinite batch is that of label smoothing with eps = alpha / (1 + alpha).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labeltui import noise
from labeltui.audit import QueueSpec
from labeltui.errors import UsageError
from labeltui.studies.injection import estimated_transition
from labeltui.text import probability

if TYPE_CHECKING:
    from labeltui.audit import Audit

MOST_BATCH = 1024
MOST_SMOOTHING = 0.5
REVIEWS = (10, 100, 1000)
_NEAR_ONE = 1e-9

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Training:
    """What a training run on these labels should do differently; defaults to be overridden.

    Attributes
    ----------
    batch : int
        ``b0 (1 + alpha)^2``, which keeps the gradient's signal-to-noise ratio, as a power of two within
        `MOST_BATCH` and a tenth of the samples.
    learning_rate : float
        Times the square root of what the batch falls short of that.
    label_smoothing : float
        The rate of wrong labels, if it is larger than the usual smoothing; at most `MOST_SMOOTHING` (Lukasik et al.,
        "Does label smoothing mitigate label noise?", ICML 2020).
    right_per_batch : float
        Right labels in a batch of the usual size, as a fraction: 1 / (1 + alpha).
    """

    batch: int
    learning_rate: float
    label_smoothing: float
    right_per_batch: float


@dataclass(frozen=True)
class Reviewing:
    """What the next reviews would do, in the order of the queue.

    Attributes
    ----------
    reviews : int
    corrected : float
        Wrong labels expected among them.
    low, high : float
        Fraction of wrong labels afterwards, if so many are corrected: with random checks a 95 % interval, without them
        0 and a bound.
    """

    reviews: int
    corrected: float
    low: float
    high: float


@dataclass(frozen=True)
class NoiseEstimate:
    """How noisy labels are.

    Attributes
    ----------
    classes : list of str
        For printing.
    transition : ndarray of float64, shape (K, K)
        P(given label j | correct label i).
    gaps : ndarray of float64, shape (K,)
        T_cc - max_j T_cj; negative where a wrong label is more frequent than the right one.
    samples : int
        Labels that can be judged.
    rate, low, high : float
        Fraction of wrong given labels; with random checks a 95 % interval, without them 0 and a bound.
    checks : int
        Random checks that this rests on.
    alpha, alpha_low, alpha_high : float
        Equivalent dilution q / (1 - q).
    training : Training
        On the labels as the decisions made so far leave them.
    reviewing : list of Reviewing
    epsilon : float
    enough : int
        Reviews after which the next one is expected to correct fewer than `epsilon` labels.
    """

    classes: list[str]
    transition: Floats
    gaps: Floats
    samples: int
    rate: float
    low: float
    high: float
    checks: int
    alpha: float
    alpha_low: float
    alpha_high: float
    training: Training
    reviewing: list[Reviewing]
    epsilon: float
    enough: int

    def rivals(self) -> NDArray[np.int64]:
        """Return the most frequent wrong label of each class, (K,)."""
        rivals: NDArray[np.int64] = (self.transition - 2.0 * np.eye(len(self.classes))).argmax(axis=1)
        return rivals

    def as_json(self) -> dict[str, Any]:
        """For ``noise estimate --json``."""
        values = asdict(self)
        values |= {
            "transition": np.round(self.transition, 6).tolist(),
            "gaps": np.round(self.gaps, 6).tolist(),
            "method": "random checks" if self.checks else "bound from features",
        }
        return values

    def wrong_now(self) -> str:
        """Say what fraction of the given labels is wrong: an interval, or without random checks a bound."""
        if self.checks:
            return f"{self.rate:.1%} ({self.low:.1%} to {self.high:.1%}, 95 %, {self.checks:,} random checks)"
        return f"at most about {self.high:.1%}, as far as features show"

    def dilution(self) -> str:
        """Say alpha as `wrong_now` says the fraction."""
        if self.checks:
            return f"{self.alpha:.3f} ({self.alpha_low:.3f} to {self.alpha_high:.3f})"
        return f"at most about {self.alpha_high:.3f}"

    def wrong_after(self, reviewing: Reviewing) -> str:
        """Say what fraction of the labels is wrong after these reviews, as `wrong_now` says it.

        Parameters
        ----------
        reviewing : Reviewing
            One of this estimate's.
        """
        if self.checks:
            return f"{reviewing.low:.1%} to {reviewing.high:.1%}"
        return f"at most {reviewing.high:.1%}"

    def lines(self) -> list[str]:
        """For a terminal."""
        lines = [
            f"wrong given labels  {self.wrong_now()}",
            f"equivalent alpha    {self.dilution()}: noisy labels per clean one, q / (1 - q)",
        ]
        if not self.checks:
            lines.append("for an interval review random checks (m in the review)")
        lines += ["", *self._class_lines(), "", *self._training_lines(), "", *self._review_lines()]
        return lines

    def _class_lines(self) -> list[str]:
        width = min(40, max([5, *map(len, self.classes)]))
        lines = [
            f"{'class':<{width}}  P(given = correct)  plurality gap  most frequent wrong label",
        ]
        rivals = self.rivals()
        for c in np.argsort(self.gaps, kind="stable"):
            rival = rivals[c]
            lines.append(
                f"{self.classes[c][:width]:<{width}}  {probability(float(self.transition[c, c])):>18}  "
                f"{self.gaps[c]:>13.2f}  {self.classes[rival]} {probability(float(self.transition[c, rival]))}"
                + ("   WRONG LABELS PREVAIL" if self.gaps[c] <= 0 else "")
            )
        return lines

    def _training_lines(self) -> list[str]:
        t = self.training
        return [
            f"training            a batch holds {t.right_per_batch:.0%} right labels; defaults to override:",
            f"                    --batch-size {t.batch} --learning-rate {t.learning_rate:.2g} "
            f"--label-smoothing {t.label_smoothing:.2f}",
        ]

    def _review_lines(self) -> list[str]:
        lines = [
            f"next {each.reviews:>6,} reviews correct about {each.corrected:,.1f} labels: "
            f"{self.wrong_after(each)} wrong then"
            for each in self.reviewing
        ]
        return [
            *lines,
            f"after {self.enough:,} reviews in the order of the queue the next one corrects fewer than "
            f"{self.epsilon:g} labels",
        ]


def estimate(
    audit: Audit,
    *,
    epsilon: float = 0.1,
    batch: int = 64,
    learning_rate: float = 1e-3,
    label_smoothing: float = 0.1,
) -> NoiseEstimate:
    """Estimate the label noise of an audit, from its scores and the decisions made.

    Parameters
    ----------
    audit : Audit
    epsilon : float
        Expected corrections of a review below which reviewing is no longer worth it.
    batch, learning_rate, label_smoothing
        Of a training run on clean labels.

    Returns
    -------
    NoiseEstimate

    Raises
    ------
    UsageError
        `epsilon` is not in 0..1.
    InputError
        The audit has no scores.
    """
    if not 0.0 < epsilon < 1.0:
        raise UsageError("--epsilon must be above 0 and below 1", f"got {epsilon:g}")
    transition = estimated_transition(audit, list(audit.class_ids))
    wrong = audit.number_wrong()
    samples = max(wrong.samples, 1)
    rate, low, high = (value / samples for value in (wrong.expected, wrong.low, wrong.high))
    order = np.asarray(audit.queue(QueueSpec(flagged=None)))  # undecided samples, lowest label score first
    p = 1.0 - np.asarray(audit.scores, dtype=np.float64)[order[audit.scorable[order]]]
    corrected = int((audit.checked == 0).sum())
    left = max(0.0, wrong.expected - corrected)
    reviewing = []
    for k in REVIEWS:
        if k <= len(p):
            gain = float(p[:k].sum())
            after = (max(0.0, bound - corrected - gain) / samples for bound in (wrong.low, wrong.high))
            reviewing.append(Reviewing(k, gain, *after))
    return NoiseEstimate(
        classes=list(audit.names),
        transition=transition,
        gaps=class_gaps(transition),
        samples=wrong.samples,
        rate=rate,
        low=low,
        high=high,
        checks=wrong.checks,
        alpha=_alpha(rate),
        alpha_low=_alpha(low),
        alpha_high=_alpha(high),
        training=recommend(left / samples, samples, batch, learning_rate, label_smoothing),
        reviewing=reviewing,
        epsilon=epsilon,
        enough=int((p >= epsilon).sum()),
    )


def class_gaps(transition: Floats) -> Floats:
    """Return T_cc - max_j T_cj of each class, (K,); 1 where there is one class.

    Parameters
    ----------
    transition : ndarray of float64, shape (K, K)
    """
    if len(transition) < 2:
        return np.ones(len(transition))
    others = transition.copy()
    np.fill_diagonal(others, -np.inf)
    return np.asarray(np.diag(transition) - others.max(axis=1))


def recommend(
    rate: float, samples: int, batch: int, learning_rate: float, label_smoothing: float
) -> Training:
    """Return what a training run should do on labels of which a fraction is wrong; see `Training`.

    Parameters
    ----------
    rate : float
    samples : int
        To train on.
    batch, learning_rate, label_smoothing
        On clean labels.
    """
    alpha = _alpha(rate)
    wanted = batch * (1.0 + alpha) ** 2
    most = max(batch, min(MOST_BATCH, samples // 10))
    taken = min(most, 2 ** round(math.log2(wanted)))
    return Training(
        batch=taken,
        learning_rate=learning_rate * min(1.0, math.sqrt(taken / wanted)),
        label_smoothing=max(label_smoothing, min(rate, MOST_SMOOTHING)),
        right_per_batch=1.0 / (1.0 + alpha),
    )


def _alpha(rate: float) -> float:
    return noise.dilution(min(max(rate, 0.0), 1.0 - _NEAR_ONE))
