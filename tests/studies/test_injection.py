"""Label noise injected into an audit's labels."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from labeltui import noise
from labeltui.audit import Audit
from labeltui.audit import status as status_of
from labeltui.errors import InputError, UsageError
from labeltui.store import Store
from labeltui.studies import injection
from labeltui.studies.injection import NoiseSpec
from labeltui.train.plan import named_labels
from tests.factories import make_audit


@pytest.fixture(scope="module")
def audit_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_audit(tmp_path_factory.mktemp("audit"))


def rows_of(table: Path) -> list[dict[str, str]]:
    with open(table, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("model", [name for name in injection.MODELS if name != "out-of-vocabulary"])
def test_each_model_makes_the_fraction_wrong_and_leaves_the_audit_alone(
    audit_path: Path, tmp_path: Path, model: str
) -> None:
    files = {path: path.stat().st_mtime_ns for path in audit_path.rglob("*") if path.is_file()}
    with Audit.open(audit_path, read_only=True) as audit:
        made = injection.inject(audit, NoiseSpec(model, 0.2, seed=3))
        again = injection.inject(audit, NoiseSpec(model, 0.2, seed=3))
        other = injection.inject(audit, NoiseSpec(model, 0.2, seed=4))
    assert made.injected.sum() == pytest.approx(0.2 * 240, abs=4 if model == "class-dependent" else 0.6)
    assert (made.labels == again.labels).all()
    assert (made.labels != other.labels).any()
    injection.write_table(made, tmp_path / "t.csv")
    rows = rows_of(tmp_path / "t.csv")
    assert [row["injected"] == "True" for row in rows] == [row["label"] != row["truth"] for row in rows]
    assert {path: path.stat().st_mtime_ns for path in audit_path.rglob("*") if path.is_file()} == files


def test_the_table_is_one_that_training_reads(audit_path: Path, tmp_path: Path) -> None:
    with Audit.open(audit_path, read_only=True) as audit:
        made = injection.inject(audit, NoiseSpec("symmetric", 0.3))
        injection.write_table(made, tmp_path / "t.csv")
        with Store.open(audit.path) as opened:
            for column, wanted in (("label", made.labels), ("truth", made.truth)):
                read = named_labels(audit, opened, f"{tmp_path / 't.csv'}:{column}")
                np.testing.assert_array_equal(read, wanted)
    with pytest.raises(UsageError, match="new"):
        injection.write_table(made, tmp_path / "t.csv")


def test_cluster_noise_is_tight_and_agrees() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 250).astype(np.int32)
    features = np.eye(4)[labels] * 2 + rng.normal(0, 0.7, (1000, 4))
    new, injected = noise.cluster_based(labels, features, 0.1, 0, 4, size=25)
    assert injected.sum() == 100
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    even = noise.symmetric(labels, 0.1, 0, 4)

    def agreement(changed: np.ndarray, after: np.ndarray) -> float:
        similarity = unit @ unit.T - 2 * np.eye(1000)
        near = np.argsort(-similarity, axis=1)[:, :5]
        return float((after[near[changed]] == after[changed][:, None]).mean())

    assert agreement(injected, new) > 0.6 > 0.3 > agreement(even.injected, even.labels)


def test_cluster_noise_needs_features_that_say_something() -> None:
    labels = np.array([0, 0, 1, 1, -1], np.int32)
    features = np.array([[1, 0], [np.nan, 0], [0, 1], [0, 0], [1, 1]], float)
    new, injected = noise.cluster_based(labels, features, 1.0, 0, 2)
    assert injected.tolist() == [True, False, True, False, False]
    assert new[4] == -1
    with pytest.raises(InputError, match="2 classes"):
        noise.cluster_based(labels[:2], features[:2], 1.0, 0, 2)


def test_a_matrix_of_a_file_is_met(audit_path: Path, tmp_path: Path) -> None:
    table = tmp_path / "m.csv"
    table.write_text(
        "true,class1,class0,class2,class3\n"  # in another order
        "class0,5,5,0,0\nclass1,1,0,0,0\nclass2,0,0,1,0\nclass3,0,0,0,1\n"
    )
    with Audit.open(audit_path, read_only=True) as audit:
        made = injection.inject(audit, NoiseSpec("class-dependent"), matrix=table)
        first = made.truth == 0
        assert (made.labels[first] == 1).sum() == pytest.approx(first.sum() / 2, abs=1)
        np.testing.assert_array_equal(made.labels[~first], made.truth[~first])
        table.write_text("true,class0,class1\nclass0,1,x\nclass9,0,1\n")
        with pytest.raises(UsageError, match="one row and one column"):
            injection.inject(audit, NoiseSpec("class-dependent"), matrix=table)


def test_a_synthetic_audit_says_so_and_keeps_its_images(audit_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "noisy.audit"
    with Audit.open(audit_path, read_only=True) as audit:
        made = injection.inject(audit, NoiseSpec("pair-flip", 0.2), labels="given")
        injection.write_audit(made, out)
    with Audit.open(out, read_only=True) as noisy, Store.open(out) as opened:
        assert opened.scan["synthetic"]["model"] == "pair-flip"
        np.testing.assert_array_equal(noisy.given, made.labels)
        assert status_of(noisy)["synthetic"]["rate"] == 0.2
        assert noisy.images.image(0).size == (16, 16)
    assert sum(row["injected"] == "True" for row in rows_of(tmp_path / "noisy.truth.csv")) == 48


def test_out_of_vocabulary_samples_come_from_another_audit(audit_path: Path, tmp_path: Path) -> None:
    strange = make_audit(tmp_path / "other", seed=1)
    with Audit.open(audit_path, read_only=True) as audit, Audit.open(strange, read_only=True) as other:
        spec = NoiseSpec("out-of-vocabulary", 0.25, seed=1)
        made = injection.inject(audit, spec, other=other)
        assert len(made.ids) == 320
        assert made.injected[240:].all()
        assert (made.truth[240:] == -1).all()
        assert all(Path(name.decode()).is_file() for name in made.ids[240:])
        with pytest.raises(UsageError, match="needs"):
            injection.inject(audit, NoiseSpec("out-of-vocabulary", 0.9), other=other)
        with pytest.raises(UsageError, match="--other"):
            injection.inject(audit, spec)


@pytest.mark.parametrize(
    "wrong", [("unknown", 0.1), ("symmetric", None), ("symmetric", 1.0), ("confusable", 0.1, 0, 2.0)]
)
def test_bad_options_are_refused(wrong: tuple[object, ...]) -> None:
    with pytest.raises(UsageError):
        NoiseSpec(*wrong)  # type: ignore[arg-type]
