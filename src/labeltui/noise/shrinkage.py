"""Which of the anchors' disagreements are mistakes, and which the confusion of classes that look alike.

The anchors of class t, the samples that look most like it, disagree with it for two reasons: their label is wrong, or
they are of another class that looks like t. Where wrong labels are rarer than such confusion, a transition matrix that
is copied from the anchors describes the confusion, and calls every sample between two classes wrong. Three
facts tell them apart, none of which needs a clean label:

*Direction.*
    A calibrated classifier confuses two classes equally often in both directions: sum q_t q_y is symmetric. A pair of
    classes of which one is given for the other far more often than the reverse shows mistakes. How lopsided pairs are
    by confusion alone, and how many are more than that, is estimated from all pairs (two groups, empirical Bayes;
    Efron, Large-Scale Inference, 2010, chapter 2).
*Fit.*
    Mistakes make the given labels more probable under ``sum_t q_t T_ty``; confusion does not, since q already holds
    it. The likelihood of labels decides how many mistakes there are besides the directed ones, and how far they follow
    the anchors' counts (`labeltui.noise.likelihood`).
*Counts.*
    A pair of classes is drawn toward the mean pair with the weight of `PSEUDO_COUNTS` anchors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from labeltui.noise._validation import Floats

PSEUDO_COUNTS = 0.5  # as Jeffreys' prior of a proportion
_LEAST_CONCENTRATION, _MOST_CONCENTRATION = 3.0, 300.0  # of the lopsidedness that confusion alone may have
_MOST_WRONG = 0.95  # of a class


class Disagreements:
    """What the labels of each class's anchors say of mistakes.

    Parameters
    ----------
    parts : sequence of ndarray of float64, shape (K, K)
        ``part[t, y]``: anchors of class t that are labelled y, of one part of the samples or of several. What is true
        of the data shows in each part.

    Attributes
    ----------
    directed : ndarray of float64, shape (K, K)
        P(given y | correct t) of mistakes that go one way; zeros on the diagonal.
    rate : float
        Fraction of the anchors whose label is another one, without the directed mistakes; a tenth without anchors.
    """

    def __init__(self, parts: Sequence[Floats]) -> None:
        counts = np.sum(parts, axis=0)
        k = len(counts)
        self._size = np.maximum(counts.sum(axis=1), 1.0)
        off = counts * (1.0 - np.eye(k))
        likely = np.min([directed_probability(part * (1.0 - np.eye(k))) for part in parts], axis=0)
        excess = likely * np.maximum(off - off.T, 0.0)
        self.directed: Floats = excess / self._size[:, None]
        self._rest = off - excess
        self.rate = (float(self._rest.sum()) + 1.0) / (float(counts.sum()) + 10.0)

    def transition(self, level: float, structure: float = 0.0, directions: float = 1.0) -> Floats:
        """Return T_ty = P(given y | correct t).

        Parameters
        ----------
        level : float
            Fraction of labels that are wrong by mistakes that are not directed, 0..1.
        structure : float
            0 = these strike every class alike, 1 = they are spread as the counts are.
        directions : float
            Fraction of the directed mistakes that is believed.

        Returns
        -------
        ndarray of float64, shape (K, K)
            Rows sum to 1.
        """
        k = len(self._rest)
        if k < 2:
            return np.eye(k)
        even = (1.0 - np.eye(k)) / (k - 1)
        mean = float(self._rest.sum() / self._size.sum())
        expected = mean * self._size[:, None] * even
        spread = even * ((self._rest + PSEUDO_COUNTS) / (expected + PSEUDO_COUNTS)) ** structure
        off = (
            spread * (level * self._size.sum() / float(self._size @ spread.sum(axis=1)))
            + directions * self.directed
        )
        wrong = off.sum(axis=1, keepdims=True)
        off *= np.minimum(1.0, _MOST_WRONG / np.maximum(wrong, 1e-12))
        return np.asarray(off + np.diag(1.0 - off.sum(axis=1)))


def directed_probability(off: Floats) -> Floats:
    """Return the probability that a pair of classes is given for each other in one direction by mistake.

    Of the m disagreements of a pair those in one direction are beta-binomial: around one half where confusion alone
    makes them (concentration fitted), anywhere (Jeffreys' prior) where mistakes do. The fraction of the second kind
    is fitted too, under a prior that doubts it.

    Parameters
    ----------
    off : ndarray of float64, shape (K, K)
        Counts; zeros on the diagonal.

    Returns
    -------
    ndarray of float64, shape (K, K)
        Symmetric.
    """
    from scipy.special import betaln  # only a fit needs it; the bound's constants are read at every start

    estimate = np.zeros_like(off)
    upper = np.triu_indices(len(off), 1)
    there, back = off[upper], off.T[upper]
    some = there + back > 0
    if not some.any():
        return estimate
    pairs = upper[0][some], upper[1][some]
    (there, back), which, times = np.unique(
        np.stack([there[some], back[some]]), axis=1, return_inverse=True, return_counts=True
    )
    which = which.reshape(-1)
    mistakes = betaln(there + 0.5, back + 0.5) - betaln(0.5, 0.5)
    a = np.geomspace(_LEAST_CONCENTRATION, _MOST_CONCENTRATION, 20)[:, None]
    confusion = betaln(there + a, back + a) - betaln(a, a)
    fraction = np.full_like(a, 0.05)
    for _ in range(60):  # expectation maximisation, of each concentration
        log_mistakes, log_confusion = np.log(fraction) + mistakes, np.log1p(-fraction) + confusion
        belongs = 1.0 / (1.0 + np.exp(np.clip(log_confusion - log_mistakes, -700.0, 700.0)))
        fraction = (belongs * times).sum(axis=1, keepdims=True) / (times.sum() + 2.0)
        fraction = np.clip(fraction, 1e-4, 0.9)
    fits = (np.logaddexp(log_mistakes, log_confusion) * times).sum(axis=1) + 2.0 * np.log1p(-fraction[:, 0])
    best = 0
    for place in range(len(fits)):  # the least concentration among equals
        if fits[place] > fits[best] + 1e-9:
            best = place
    estimate[pairs] = belongs[best][which]
    return estimate + estimate.T
