"""Training dynamics: what is read off a record, and the shipped network."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score

from labeltui import detect, head, noise
from labeltui.detect import base
from labeltui.detect.calibrate import calibration_error
from labeltui.detect.dynamics import calibration, network, statistics
from labeltui.detect.dynamics.curves import CHANNELS, STEPS, Curves
from labeltui.detect.dynamics.run_features import FEATURES, RunFeatures
from labeltui.errors import InputError, UsageError

DIGITS = load_digits()
TRUTH = DIGITS.target.astype(np.int32)
X = (DIGITS.data / 16).astype(np.float32)
NEEDED = ["head", "corrected", "dynamics"]


@pytest.fixture(scope="module")
def facts() -> base.DetectorInputs:
    """Digits with a third of the labels moved to the next class, and the record of a head that learned them."""
    labels = noise.pair_flip(TRUTH, 0.33, 77, 10).labels
    return learned(labels, head.HeadSpec(hidden=256, epochs=9))


def learned(labels: np.ndarray, spec: head.HeadSpec | None = None) -> base.DetectorInputs:
    """What a scan of digits with these labels gives the detectors, without neighbours."""
    fold = head.folds(labels, None, None, 2, 0)
    made = head.out_of_fold(X, labels, fold, 10, spec=spec, dynamics=True)
    return base.DetectorInputs(
        labels, 10, np.ones(len(X), dtype=bool), p_head=made.p, dynamics=made.dynamics, embeddings=X,
        fold=fold, head=spec,
    )  # fmt: skip


def record_of(log_p: np.ndarray, labels: np.ndarray, k: int, seed: int = 0) -> head.Dynamics:
    """A record (E, N) whose other fields fit `log_p`: the rest of the probability lies on one other class."""
    own = np.exp(log_p)
    top = np.where(own > 0.5, labels, (labels + 1) % k)
    return head.Dynamics(
        log_p.astype(np.float16),
        (log_p - np.log1p(-own)).astype(np.float16),
        top.astype(np.int16),
        np.maximum(own, 1 - own).astype(np.float16),
        (own**2 + (1 - own) ** 2).astype(np.float16),
        labels,
    )


@pytest.fixture
def record() -> head.Dynamics:
    """Random curves: 20 samples over 7 epochs; one has no label and no curve, one none from the fourth epoch on."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 20).astype(np.int32)
    made = record_of(np.log(rng.uniform(0.02, 0.98, (7, 20))), labels, 4)
    for field in ("log_p", "margin", "top_p", "sum_squares", "top"):
        values = getattr(made, field)
        nothing = -1 if field == "top" else np.nan
        values[:, 3] = nothing
        values[3:, 4] = nothing
    labels[3] = -1  # a sample without a label
    return made


# ------------------------------------------------------------------------------------- statistics


def test_statistics_are_what_their_papers_say(record: head.Dynamics) -> None:
    found = {name: statistic(record) for name, statistic in statistics.STATISTICS.items()}
    for values in found.values():
        assert values.dtype == np.float32
        assert np.flatnonzero(np.isnan(values)).tolist() == [3]
    for sample in range(20):
        epochs = range(3 if sample == 4 else 7)
        if sample == 3:
            continue
        own = [float(np.exp(np.float32(record.log_p[e, sample]))) for e in epochs]
        right = [record.top[e, sample] == record.labels[sample] for e in epochs]
        lost = sum(a and not b for a, b in itertools.pairwise(right))
        assert found["AUM"][sample] == pytest.approx(
            np.mean([record.margin[e, sample] for e in epochs]), rel=1e-3
        )
        assert found["mean confidence"][sample] == pytest.approx(np.mean(own), rel=1e-5)
        assert found["wrong events"][sample] == -(len(right) - sum(right))
        assert found["forgetting events"][sample] == -(lost if any(right) else 7)
        assert found["last loss"][sample] == record.log_p[epochs[-1], sample]
        # The length of p - y itself, where the rest of p lies on one other class.
        errors = [np.hypot(1 - own[e], 1 - own[e]) for e in range(1)]
        assert found["EL2N"][sample] == pytest.approx(-np.mean(errors), abs=2e-3)


# ------------------------------------------------------------------------------------- curves


def test_neither_the_number_of_epochs_nor_of_classes_nor_the_scale_of_logits_changes_a_curve() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 5, 300).astype(np.int32)
    few = record_of(np.log(rng.uniform(0.05, 0.95, (5, 300))), labels, 5)
    fine = np.linspace(0, 4, 9)  # the same lines, read twice as often

    def between(values: np.ndarray) -> np.ndarray:
        lines = values.astype(np.float32)
        return np.stack([np.interp(fine, np.arange(5), line) for line in lines.T], axis=1).astype(np.float16)

    many = head.Dynamics(
        between(few.log_p), between(few.margin), np.repeat(few.top, 2, axis=0)[:9],
        between(few.top_p), between(few.sum_squares), labels,
    )  # fmt: skip
    rows = np.arange(300)
    a, b = Curves(few, 5).read(rows), Curves(many, 5).read(rows)
    assert a.shape == (300, STEPS, len(CHANNELS))
    np.testing.assert_allclose(a[:, :, [0, 1, 3, 4, 7]], b[:, :, [0, 1, 3, 4, 7]], atol=0.05)
    stretched = dataclasses.replace(few, margin=few.margin * np.float16(4))
    np.testing.assert_allclose(a, Curves(stretched, 5).read(rows), atol=1e-3)
    for k in (2, 10, 1000):  # at chance everything is at nought
        chance = head.Dynamics(
            np.full((3, 4), -np.log(k), np.float16), np.zeros((3, 4), np.float16), np.zeros((3, 4), np.int16),
            np.full((3, 4), 1 / k, np.float16), np.full((3, 4), 1 / k, np.float16), np.zeros(4, np.int32),
        )  # fmt: skip
        at_chance = Curves(chance, k).read(np.arange(4))
        np.testing.assert_allclose(at_chance[:, :, [0, 3, 4]], 0.0, atol=0.01)


def test_curves_are_read_over_the_epochs_that_were_recorded(record: head.Dynamics) -> None:
    curves = Curves(record, 4)
    assert np.flatnonzero(~curves.usable).tolist() == [3]
    rows = np.flatnonzero(curves.usable)
    all_of_it = curves.read(rows)
    assert np.isfinite(all_of_it).all()
    short = head.Dynamics(
        *(getattr(record, field)[:3, 4:5] for field in ("log_p", "margin", "top", "top_p", "sum_squares")),
        record.labels[4:5],
    )
    alone = Curves(short, 4).read(np.zeros(1, dtype=np.int64))
    np.testing.assert_allclose(all_of_it[rows == 4][:, :, [0, 2, 3, 4]], alone[:, :, [0, 2, 3, 4]], atol=1e-6)


def test_what_a_run_says_of_a_sample_is_what_a_count_says(record: head.Dynamics) -> None:
    known = statistics.recorded(record)
    run_features = RunFeatures(record, 4, known)
    assert run_features.features.shape == (20, len(FEATURES))
    assert (run_features.features[3] == 0).all()
    assert run_features.rival[3] == -1
    seen = np.flatnonzero(known.any(axis=0))
    own, other = np.zeros(20), np.zeros(20)
    for sample in seen:
        epochs = np.flatnonzero(known[:, sample])
        own[sample] = np.mean(np.exp(record.log_p[epochs, sample].astype(np.float32)))
        tops = [t for t in record.top[epochs, sample] if t != record.labels[sample]]
        assert run_features.rival[sample] == (np.bincount(tops, minlength=4).argmax() if tops else -1)
        on_top = record.top[epochs, sample] == run_features.rival[sample]
        other[sample] = np.where(on_top, record.top_p[epochs, sample].astype(np.float64), 0.0).mean()
    size = np.bincount(record.labels[seen], minlength=4)
    level = np.array(
        [(own[seen][record.labels[seen] == c].sum() + 4 * own[seen].mean()) / (size[c] + 4) for c in range(4)]
    )
    joint = np.zeros((4, 4))  # samples of a label that another class has at its own level
    for sample in seen[run_features.rival[seen] >= 0]:
        joint[record.labels[sample], run_features.rival[sample]] += (
            other[sample] >= level[run_features.rival[sample]]
        )
    assert joint.sum() >= 3
    rate = np.log((joint.sum(axis=1) + 4 * joint.sum() / len(seen)) / (size + 4) + 0.01)

    def odds(p: float) -> float:
        p = min(max(p, 1e-4), 1 - 1e-4)
        return float(np.log(p / (1 - p)))

    for sample in seen:
        i, j = record.labels[sample], run_features.rival[sample]
        j = i if j < 0 else j
        expected = [
            (odds(own[sample]) - odds(level[i])) / 3,
            (odds(other[sample]) - odds(level[j])) / 3,
            np.log((joint[i, j] + 0.5) / (size[i] + 4)) / 3 + 1,
            np.log((joint[j, i] + 0.5) / (size[j] + 4)) / 3 + 1,
            rate[i] / 2 + 1, rate[j] / 2 + 1, odds(level[i]) / 2, odds(level[j]) / 2,
        ]  # fmt: skip
        np.testing.assert_allclose(run_features.features[sample, 2:], expected, atol=1e-4)
    rows = np.flatnonzero(known.any(axis=0))
    margins = statistics.aum(record)[rows]
    np.testing.assert_array_equal(np.argsort(run_features.features[rows, 0]), np.argsort(margins))
    for label in range(4):
        own = record.labels[rows] == label
        np.testing.assert_array_equal(
            np.argsort(run_features.features[rows[own], 1]), np.argsort(margins[own])
        )


# ------------------------------------------------------------------------------------- detector


def test_the_shipped_network_beats_what_else_is_read_off_the_record(facts: base.DetectorInputs) -> None:
    assert facts.dynamics is not None
    findings = detect.run(facts)
    wrong = facts.labels != TRUTH
    ours = average_precision_score(wrong, -findings.scores["dynamics"])
    for name, statistic in statistics.STATISTICS.items():
        assert ours > average_precision_score(wrong, -statistic(facts.dynamics)), name
    assert "dynamics" not in findings.proposals
    assert findings.attrs["dynamics"]["epochs"] == len(facts.dynamics.log_p)
    assert findings.attrs["dynamics"]["recorded"] == len(X)


def test_the_score_is_the_mean_over_the_records_of_the_head_and_the_corrected_heads(
    facts: base.DetectorInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Curves] = []
    read = network.read

    def noting(shipped: network.Network, curves: Curves, *arguments: object) -> np.ndarray:
        seen.append(curves)
        return read(shipped, curves, *arguments)

    monkeypatch.setattr(network, "read", noting)
    found = detect.run(facts, only=NEEDED)
    assert found.attrs["dynamics"]["records"] == len(seen) == 3
    assert seen[0]._record is facts.dynamics
    rows = np.arange(len(X))
    parts = [read(network.shipped(), curves, rows) for curves in seen]
    assert len({part.tobytes() for part in parts}) == 3
    score = found.scores["dynamics"].astype(np.float64)
    shift = np.log(score / (1 - score)) - np.mean(parts, axis=0)
    inner = (score > 1e-4) & (score < 1 - 1e-4)
    np.testing.assert_allclose(shift[inner], np.median(shift), atol=2e-3)
    # Frequent mistakes are learned like correct labels, except by heads that know them.
    wrong = facts.labels != TRUTH
    first, *corrected = (average_precision_score(wrong, -part) for part in parts)
    assert min(corrected) > first + 0.05
    assert average_precision_score(wrong, -score) > first + 0.05


def test_records_of_another_network_or_of_other_labels_are_read_alone(facts: base.DetectorInputs) -> None:
    of_backbone = dataclasses.replace(facts, head_dynamics=False)
    injecting = dataclasses.replace(facts, injected=np.arange(len(X)) % 20 == 0)
    unembedded = dataclasses.replace(facts, embeddings=None)
    for inputs in (of_backbone, injecting, unembedded):
        assert detect.run(inputs).attrs["dynamics"]["records"] == 1
    alone = detect.run(of_backbone, only=["head", "dynamics"]).scores["dynamics"]
    both = detect.run(of_backbone, only=NEEDED).scores["dynamics"]
    np.testing.assert_array_equal(alone, both)


def test_without_what_it_reads_it_is_refused(facts: base.DetectorInputs) -> None:
    for only, hint in ((["dynamics"], "corrected"), (["head", "dynamics"], "corrected")):
        with pytest.raises(UsageError) as refused:
            detect.run(facts, only=only)
        assert hint in refused.value.hint
    for name in ("corrected", "cleannet"):  # as any detector that needs to know the noise
        with pytest.raises(UsageError) as refused:
            detect.run(facts, only=[name])
        assert "head" in refused.value.hint
    with pytest.raises(UsageError) as refused:
        detect.run(dataclasses.replace(facts, head_dynamics=False), only=["dynamics"])
    assert "head" in refused.value.hint


def test_it_says_how_sure_it_is_at_any_noise_rate(facts: base.DetectorInputs) -> None:
    """Shipped, not fitted: the run's own estimate of the rate sets the level."""
    settings = [(noise.symmetric, 0.05), (noise.symmetric, 0.2), (noise.symmetric, 0.4)]
    settings += [(noise.pair_flip, 0.05), (noise.pair_flip, 0.2), (noise.pair_flip, 0.4)]
    found = [error_of_calibration(facts)]
    for plant, rate in settings:
        found.append(error_of_calibration(learned(plant(TRUTH, rate, 5, 10).labels)))
    assert np.mean(found) < 0.1
    assert max(found) < 0.16


def error_of_calibration(facts: base.DetectorInputs) -> float:
    """Of what the detector alone says of digits."""
    score = detect.run(facts, only=NEEDED).scores["dynamics"]
    return float(calibration_error(score, facts.labels == TRUTH))


def test_the_level_is_that_of_the_rate() -> None:
    z = np.random.default_rng(5).normal(1.0, 3.0, 500).astype(np.float32)
    for rate in (0.0, 0.01, 0.3, 0.9, 1.0):
        found = calibration.prior_shift(z, rate).apply(z)
        assert 1 - found.mean() == pytest.approx(min(max(rate, 0.002), 0.98), abs=1e-3)
        assert (np.diff(found[np.argsort(z)]) >= 0).all()


def test_scores_keep_their_law_and_their_bytes_on_any_number_of_threads(
    facts: base.DetectorInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "_BLOCK", 256)
    one, three = (
        detect.run(dataclasses.replace(facts, threads=threads), only=NEEDED).scores["dynamics"]
        for threads in (1, 3)
    )
    assert one.tobytes() == three.tobytes()
    assert one.dtype == np.float32
    assert ((one >= 0) & (one <= 1)).all()


def test_a_curve_of_another_label_or_none_says_nothing(facts: base.DetectorInputs) -> None:
    assert facts.dynamics is not None
    gaps = {
        name: getattr(facts.dynamics, name).copy() for name in ("log_p", "margin", "top_p", "sum_squares")
    }
    for values in gaps.values():
        values[:, :5] = np.nan
    given = facts.labels.copy()
    given[5:10] = (given[5:10] + 1) % 10  # a person has changed these since
    changed = dataclasses.replace(facts, given=given, dynamics=dataclasses.replace(facts.dynamics, **gaps))
    without_head = dataclasses.replace(changed, p_head=None, pred_probs=facts.p_head)
    for inputs in (changed, without_head):
        score = detect.run(inputs).scores["dynamics"]
        assert (score[:10] == 0.5).all()
        assert (score[10:] != 0.5).mean() > 0.99
    with pytest.raises(InputError):
        dataclasses.replace(facts, dynamics=dataclasses.replace(facts.dynamics, labels=facts.labels[1:]))


def test_the_weights_are_small_and_a_record_of_one_class_is_left_alone(facts: base.DetectorInputs) -> None:
    size = sum(values.numel() for values in network.shipped().parameters())
    assert size * 4 < 2_000_000
    assert facts.dynamics is not None
    nothing = dataclasses.replace(
        facts, labels=np.zeros_like(facts.labels), n_classes=1, p_head=None, fold=None
    )
    assert "dynamics" not in detect.run(nothing).scores


# ------------------------------------------------------------------------------------- injected errors


def test_planted_errors_tell_what_the_odds_are_worth() -> None:
    rng = np.random.default_rng(3)
    # Odds that are three times too sure and shifted, of a fifth of wrong labels; 5 % more are planted.
    z = rng.normal(size=20_000) * 2
    wrong = rng.random(20_000) < 1 / (1 + np.exp(1.2 * z + 1.8))
    drawn = rng.choice(np.flatnonzero(wrong), 1000, replace=False)
    everything = np.concatenate([z, z[drawn] + rng.normal(size=1000) * 0.01])
    is_injected = np.arange(21_000) >= 20_000
    seen = 3 * everything + 2
    curve = calibration.fit(seen, is_injected, float(wrong.mean()) * 1.5)
    assert curve is not None
    right = curve.apply(seen[:20_000])
    before = 1 / (1 + np.exp(-seen[:20_000]))
    assert calibration_error(right, ~wrong) < 0.04
    assert calibration_error(right, ~wrong) < 0.4 * calibration_error(before, ~wrong)
    assert curve.rate == pytest.approx(wrong.mean(), abs=0.05)
    order = np.argsort(z)
    assert (np.diff(right[order]) >= 0).all()
    assert calibration.fit(seen, np.arange(21_000) < calibration.MIN_INJECTED - 1, 0.2) is None
