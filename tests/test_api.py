"""The Python API: the walk through docs/api.md, equality with a scan, and what importing costs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.utils.estimator_checks import check_estimator

import labeltui
from labeltui import CumulativeSpectralGradient, find_label_issues, knn_graph, open_audit, scan, store
from labeltui.errors import InputError, SourceError, UsageError
from tests.factories import make_audit

pytestmark = pytest.mark.usefixtures("brief_training")
ROOT = Path(__file__).parents[1]


def data(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    digits = load_digits()
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(digits.data), n, replace=False)
    labels = digits.target[rows].copy()
    wrong = rng.choice(n, n // 10, replace=False)
    labels[wrong] = (labels[wrong] + 1) % 10
    return digits.data[rows].astype(np.float32), labels


@pytest.mark.skipif(not (ROOT / "docs").exists(), reason="the docs are part of the checkout")
def test_the_walk_in_the_docs_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.S)
    assert len(blocks) == 5
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/api.md", "exec"), names)
    assert (tmp_path / "labels.csv").exists()


def test_importing_the_package_is_cheap() -> None:
    code = "import sys, time; t = time.process_time(); import labeltui; print(time.process_time() - t, *sys.modules)"
    seconds = []
    for _ in range(3):
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        took, *modules = run.stdout.split()
        seconds.append(float(took))
    assert min(seconds) < 0.05
    assert not {"torch", "textual", "numpy"} & set(modules)


def test_every_public_name_has_a_type() -> None:
    stub = Path(labeltui.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    assert set(re.findall(r" as (\w+)$|^(__version__)", stub, re.M)) == {
        (name, "") if name != "__version__" else ("", name) for name in labeltui.__all__
    }


@pytest.mark.parametrize("name", labeltui.__all__)
def test_public_names_are_there_and_documented(name: str) -> None:
    value = getattr(labeltui, name)
    assert name == "__version__" or value.__doc__


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_flags_are_those_of_a_scan_byte_for_byte(tmp_path: Path, dtype: type) -> None:
    X, labels = data()
    X = X.astype(dtype)
    X[7] = 0  # a row without a direction
    X[9] = X[8]  # a duplicate
    labels[11] = -1
    np.savez(tmp_path / "X.npz", embeddings=X, labels=labels)
    scan(tmp_path / "X.npz", tmp_path / "x.audit", seed=3).close()
    issues = find_label_issues(labels, X, seed=3)
    with (
        store.Store.open(tmp_path / "x.audit") as opened,
        open_audit(tmp_path / "x.audit", read_only=True) as audit,
    ):
        assert issues.label_score.tobytes() == opened.array("scores/blend").tobytes()
        assert issues.is_label_issue.tobytes() == np.array(audit.flags).tobytes()
        for name, values in issues.scores.items():
            assert values.tobytes() == opened.array(f"scores/{name}").tobytes(), name
        assert issues.csg == opened.attrs("csg")["csg"]
    assert not issues.is_label_issue[[7, 11]].any()


def test_probabilities_alone_are_enough() -> None:
    _, labels = data()
    rng = np.random.default_rng(0)
    p = np.full((len(labels), 10), 0.02)
    true = load_digits().target[np.random.default_rng(0).choice(1797, 300, replace=False)]
    p[np.arange(len(labels)), true] = 0.82
    p += rng.uniform(0, 0.01, p.shape)
    issues = find_label_issues(labels, pred_probs=p / p.sum(1, keepdims=True))
    assert np.mean(issues.is_label_issue == (labels != true)) > 0.98
    assert issues.csg is None
    assert issues.given_label.dtype.kind == "i"


def test_columns_of_probabilities_follow_the_classes_named() -> None:
    labels = np.array(["b", "a", "b", "a", "c", "c"] * 10)
    order = ["c", "a", "b", "d"]
    p = np.full((60, 4), 0.01)
    p[np.arange(60), [order.index(label) for label in labels]] = 0.97
    issues = find_label_issues(labels, pred_probs=p, classes=order)
    assert not issues.is_label_issue.any()
    assert issues.predicted_label.tolist() == labels.tolist()
    with pytest.raises(SourceError, match="3 classes"):
        find_label_issues(labels, pred_probs=p)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"labels": [0, 1]}, InputError, "got neither"),
        ({"labels": [0, 1, 1], "embeddings": np.ones((2, 3))}, InputError, "one row for each label"),
        ({"labels": [0, 1], "embeddings": [["a"], ["b"]]}, InputError, "numbers"),
        ({"labels": [-1, -1], "embeddings": np.eye(2)}, SourceError, "at least one class"),
        ({"labels": [0.5, 1.5], "embeddings": np.eye(2)}, SourceError, "whole numbers or strings"),
        ({"labels": [0, 1], "embeddings": np.eye(2), "folds": 1}, UsageError, "folds"),
        ({"labels": [0, 1], "embeddings": np.zeros((2, 2))}, InputError, "two usable rows"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        find_label_issues(**arguments)


class TestAudit:
    def test_samples_and_classes_are_named(self, tmp_path: Path) -> None:
        with open_audit(make_audit(tmp_path)) as audit:
            first = audit.to_dict()
            path, given = first["path"][0], first["given_label"][0]
            other = next(name for name in first["given_label"] if name != given)
            audit.relabel(str(path), str(other))
            after = audit.to_dict()
            assert after["corrected_label"][0] == other
            assert after["decision"][0] == "relabel"
            audit.undo()
            audit.keep([0, 1])
            assert audit.to_dict()["decision"][:3].tolist() == ["keep", "keep", ""]
            audit.exclude(2)
            assert audit.to_dict()["exclude"].sum() == 1
            with pytest.raises(InputError, match="class of the audit"):
                audit.relabel(0, "no such class")
            with pytest.raises(InputError, match="index"):
                audit.keep(audit.n)
            with pytest.raises(InputError, match="id of the audit"):
                audit.keep("no such file")
            with pytest.raises(UsageError, match="option must be known"):
                audit.train(epoch=3)

    def test_a_frame_needs_pandas_and_says_so(self, tmp_path: Path) -> None:
        code = (
            "import sys; sys.modules['pandas'] = None\n"
            "from labeltui import find_label_issues; import numpy as np\n"
            "issues = find_label_issues([0, 0, 1, 1] * 5, pred_probs=np.full((20, 2), .5))\n"
            "issues.to_frame()"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "pip install pandas" in run.stderr

    def test_a_frame_has_the_same_columns(self) -> None:
        pandas = pytest.importorskip("pandas")
        issues = find_label_issues([0, 0, 1, 1] * 5, pred_probs=np.full((20, 2), 0.5))
        frame = issues.to_frame()
        assert isinstance(frame, pandas.DataFrame)
        assert list(frame) == list(issues.to_dict())


class TestEstimator:
    def test_it_keeps_to_the_conventions_of_scikit_learn(self) -> None:
        check_estimator(CumulativeSpectralGradient(k=3, metric="euclidean", threads=1))

    def test_it_measures_what_a_scan_measures(self, tmp_path: Path) -> None:
        X, labels = data()
        np.savez(tmp_path / "X.npz", embeddings=X, labels=labels)
        scan(tmp_path / "X.npz", tmp_path / "x.audit").close()
        csg = CumulativeSpectralGradient().fit(X, labels)
        with store.Store.open(tmp_path / "x.audit") as opened:
            assert csg.csg_ == opened.attrs("csg")["csg"]
            np.testing.assert_array_equal(csg.class_overlap_, opened.array("csg/overlap"))
            np.testing.assert_array_equal(csg.eigenvalues_, opened.array("csg/eigenvalues"))
        assert csg.similarity_.shape == csg.overlap_.shape == (10, 10)
        assert csg.classes_.tolist() == list(range(10))


def test_a_graph_by_one_call() -> None:
    X, _ = data(100)
    graph = knn_graph(X, 5)
    similarity = (X @ X.T) / np.linalg.norm(X, axis=1) / np.linalg.norm(X, axis=1)[:, None]
    np.fill_diagonal(similarity, -1)
    np.testing.assert_allclose(graph.similarity, -np.sort(-similarity, axis=1)[:, :5], atol=1e-6)
