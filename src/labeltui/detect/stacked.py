"""A model of what wrong labels look like to the detectors, learned from labels planted in a copy.

Detectors are fitted on the planted copy as they were on the real labels. Their scores are the features of a logistic
regression that tells planted labels from the others; applied to the scores of the real labels, it says how much each
label looks like a wrong one. Every score was formed without its sample's own label (`dynamics` alone has seen it),
and what is told of real labels comes from other models than what was learned from.

The labels of the copy that were not planted contain the errors that were there before. That leaves the order of the
log-odds as it is, as long as planted errors look like those; their size is settled afterwards (`Blend.join`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labeltui import parallel
from labeltui.detect import planted
from labeltui.detect.base import Attribute, Detector, Facts, Floats, own
from labeltui.detect.blend import Blend
from labeltui.detect.calibrate import log_odds
from labeltui.noise.laws import Floats as Matrix

RATE = 0.08  # of the labels, planted
LEAST = 200  # planted labels; fewer teach nothing that the pool does not know, and cost a second head
# Planted errors must be at least this share of the copy's errors: a model that learns from fewer tells planted errors
# from others rather than wrong labels from right ones.
LEAST_SHARE = 0.25
MOST = 20_000  # samples that the copy's head learns from
_STRENGTH = 0.1  # C of the logistic regression
_COPY_SEED = 2

Features = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Look:
    """Fitted detectors and the blend of those among them that give probabilities."""

    detectors: list[Detector]
    blend: Blend

    @classmethod
    def of(cls, detectors: list[Detector]) -> Look:
        """Blend fitted detectors."""
        facts = detectors[0].facts
        return cls(detectors, Blend(facts, [detector for detector in detectors if detector.votes]))

    @property
    def names(self) -> list[str]:
        """Names of the features."""
        return [*(detector.name for detector in self.detectors), "first_look", "rival"]

    def features(self, start: int, stop: int) -> Features:
        """Return the log-odds of every score, of the blend and of the most probable other label, shape (n, M)."""
        labels = self.blend.facts.doubted[start:stop]
        p = self.blend.posterior(start, stop)
        scores = [np.clip(detector.score(start, stop), 0.0, 1.0) for detector in self.detectors]
        parts = [*scores, own(p, labels), rival(p, labels)]
        return np.stack([log_odds(part) for part in parts], axis=1)


def rival(p: Floats, labels: npt.NDArray[np.int32]) -> Floats:
    """Return each row's largest entry beside that of its label."""
    others = p.copy()
    rows = np.flatnonzero(labels >= 0)
    others[rows, labels[rows]] = 0.0
    return np.asarray(others.max(axis=1), dtype=np.float32)


@dataclass(frozen=True)
class Stack:
    """Log-odds that a label was not planted, from the detectors' scores.

    Attributes
    ----------
    look : Look
        On the real labels.
    weights : ndarray of float64, shape (M,)
    shift : float
    attributes : dict
        For the record: planted labels, how well they are found, and the weight of each feature.
    """

    look: Look
    weights: Features
    shift: float
    attributes: dict[str, Attribute]

    def log_odds(self, start: int, stop: int) -> Features:
        """Return the log-odds of the samples start..stop, shape (n,); high = looks right."""
        features = self.look.features(start, stop)
        total = np.full(len(features), self.shift)
        # No BLAS, whose last bits depend on the number of threads.
        for column, weight in zip(features.T, self.weights, strict=True):
            total += column * weight
        return total


def usable(facts: Facts, detectors: list[Detector], wrong: float) -> list[Detector]:
    """Return the detectors whose scores can be formed anew on a planted copy; none where it cannot teach.

    Parameters
    ----------
    facts : Facts
    detectors : list of Detector
        Fitted on the real labels.
    wrong : float
        Estimated share of wrong labels.
    """
    count = RATE * int((facts.judged & (facts.labels >= 0)).sum())
    if count < LEAST or RATE / (RATE + wrong) < LEAST_SHARE or facts.embeddings is None or facts.fold is None:
        return []
    known = {"p_tuned", "pred_probs"}
    if not facts.head_dynamics or facts.planted is not None:
        known.add("dynamics")
    found = [detector for detector in detectors if not detector.needs & known]
    return found if any("p_head" in detector.needs and detector.votes for detector in found) else []


def learn(
    detectors: list[Detector],
    transition: Matrix,
    progress: Callable[[float], None],
    cancel: Callable[[], bool] | None,
) -> Stack | None:
    """Fit the detectors on a planted copy and learn to find what was planted.

    Parameters
    ----------
    detectors : list of Detector
        From `usable`.
    transition : ndarray of float64, shape (K, K)
        Of the labels that they learned from.
    progress, cancel : callable

    Returns
    -------
    Stack or None
        None where planted labels kept aside are not found better than by the blend of the same detectors.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import; who reviews has no need of it
    from sklearn.metrics import average_precision_score
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    facts = detectors[0].facts
    copy = planted.copy(
        facts, transition, RATE, facts.seed + _COPY_SEED, most=MOST,
        dynamics=any("dynamics" in detector.needs for detector in detectors), progress=progress, cancel=cancel,
    )  # fmt: skip
    again = [type(detector)(copy.facts) for detector in detectors]
    for detector in again:
        detector.fit()
    look = Look.of(again)
    assert copy.facts.fold is not None
    inside = copy.facts.judged & (copy.facts.fold >= 0)
    features = np.concatenate(
        [look.features(start, stop)[inside[start:stop]] for start, stop in facts.blocks()]
    )
    wrong = copy.planted[inside]
    fold = copy.facts.fold[inside]
    folds = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in np.unique(fold)]
    if min(int(wrong[train].sum()) for train, _ in folds) < LEAST // 2:
        return None
    model = make_pipeline(StandardScaler(), LogisticRegression(C=_STRENGTH, max_iter=500))
    with parallel.limit_blas(1):
        aside = cross_val_predict(model, features, wrong, cv=folds, method="decision_function")
        model.fit(features, wrong)
    found = float(average_precision_score(wrong, aside))
    before = float(average_precision_score(wrong, -features[:, -2]))
    if found <= before:
        return None
    scaler, regression = model[0], model[1]
    # A machine's last bits must not decide which samples are flagged.
    weights = np.round(-regression.coef_[0] / scaler.scale_, 4)
    shift = round(float(-regression.intercept_[0] - weights @ scaler.mean_), 4)
    attributes: dict[str, Attribute] = {
        "planted": int(wrong.sum()),
        "planted_ap": round(found, 4),
        "planted_ap_first_look": round(before, 4),
        **{f"planted_weight_{name}": float(w) for name, w in zip(look.names, weights, strict=True)},
    }
    return Stack(Look.of(detectors), weights, shift, attributes)
