"""Each format read by the library that it is for."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from labeltui.audit import Audit
from labeltui.export import export
from labeltui.sources import open_source

pytestmark = pytest.mark.libraries


def samples_of(audit: Audit) -> list[str]:
    return [name.decode() for name in audit.sample_ids(np.arange(audit.n))]


def test_pandas_reads_the_parquet(reviewed: Audit, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    export(reviewed, tmp_path / "labels.parquet", format="parquet")
    frame = pandas.read_parquet(tmp_path / "labels.parquet")
    assert frame["path"].tolist() == samples_of(reviewed)
    assert np.array_equal(frame["label_score"].to_numpy(), reviewed.scores)
    assert frame["is_label_issue"].tolist() == reviewed.flags.tolist()
    assert frame["exclude"].tolist() == reviewed.excluded.tolist()


def test_datasets_loads_the_data_set(reviewed: Audit, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    export(reviewed, tmp_path / "hf", format="huggingface")
    loaded = datasets.load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))["train"]
    assert loaded.features["label"].names == ["class0", "class1", "class2"]
    expected = np.where(reviewed.excluded, -1, reviewed.current)
    assert [-1 if label is None else label for label in loaded["label"]] == expected.tolist()
    assert list(loaded["path"]) == samples_of(reviewed)
    assert np.array_equal(np.asarray(loaded[5]["image"].convert("RGB")), np.asarray(reviewed.images.image(5)))
    assert list(loaded["note"]) == [reviewed.note_of(i) for i in range(reviewed.n)]


def test_what_datasets_saves_comes_back_as_a_source(reviewed: Audit, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    export(reviewed, tmp_path / "hf", format="huggingface")
    for path in (tmp_path / "hf", tmp_path / "saved.parquet"):  # ours, and theirs
        if path.suffix:
            loaded = datasets.load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))["train"]
            loaded.to_parquet(str(path))
        source = open_source(path)
        assert [name.decode() for name in source.ids] == samples_of(reviewed)
        labels = np.where(reviewed.excluded, -1, reviewed.current)
        assert list(source.labels) == [None if c < 0 else b"class%d" % c for c in labels]
        assert np.array_equal(np.asarray(source.image(7)), np.asarray(reviewed.images.image(7)))


def test_webdataset_reads_the_shards(reviewed: Audit, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    export(reviewed, tmp_path / "wds", format="webdataset")
    shards = [str(path) for path in sorted((tmp_path / "wds").glob("*.tar"))]
    read = list(
        webdataset.WebDataset(shards, shardshuffle=False).decode("pil").to_tuple("png", "cls", "json")
    )
    kept = np.flatnonzero(~reviewed.excluded)
    assert [cls for _, cls, _ in read] == reviewed.current[kept].tolist()
    assert [values["path"] for _, _, values in read] == [samples_of(reviewed)[i] for i in kept]
    assert np.array_equal(np.asarray(read[3][0]), np.asarray(reviewed.images.image(int(kept[3]))))


def test_torchvision_reads_the_tree(reviewed: Audit, tmp_path: Path) -> None:
    folder = pytest.importorskip("torchvision.datasets")
    export(reviewed, tmp_path / "tree", format="imagefolder")
    tree = folder.ImageFolder(str(tmp_path / "tree"))
    assert len(tree) == reviewed.n - 1
    found = {Path(path).stem: tree.classes[label] for path, label in tree.samples}
    for i in np.flatnonzero(~reviewed.excluded).tolist():
        assert found[Path(reviewed.sample_name(i)).stem] == f"class{reviewed.current[i]}"
    image, _ = tree[0]
    assert image.size == (16, 16)


def test_cleanlab_takes_issues_and_graph(reviewed: Audit, tmp_path: Path) -> None:
    pytest.importorskip("datasets")  # which cleanlab's Datalab needs
    datalab = pytest.importorskip("cleanlab.datalab.datalab")
    from scipy import sparse

    export(reviewed, tmp_path / "cl", format="cleanlab")
    graph = sparse.load_npz(tmp_path / "cl" / "knn_graph.npz")
    with open(tmp_path / "cl" / "issues.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = [row["given_label"] for row in rows]
    lab = datalab.Datalab({"label": labels}, label_name="label", verbosity=0)
    lab.find_issues(knn_graph=graph, issue_types={"outlier": {}, "near_duplicate": {}})
    assert len(lab.get_issues("near_duplicate")) == reviewed.n == len(rows)
    assert [row["is_label_issue"] == "True" for row in rows] == reviewed.flags.tolist()
    nearest = np.asarray(graph[0].indices[:10])
    assert set(nearest) == {reviewed.evidence(0, 10).neighbours[j].index for j in range(10)}


def test_cleanlab_takes_several_annotators(reviewed: Audit, tmp_path: Path) -> None:
    multiannotator = pytest.importorskip("cleanlab.multiannotator")
    pandas = pytest.importorskip("pandas")
    export(reviewed, tmp_path / "long.csv", format="annotators")
    table = pandas.read_csv(tmp_path / "long.csv").dropna(subset="label")
    wide = table.pivot(index="sample", columns="annotator", values="label")
    assert set(wide.columns) == {"given", 'ada, "the" first', "bob"}
    codes = wide.apply(lambda column: column.map({f"class{c}": c for c in range(3)}).astype(float))
    found = multiannotator.get_majority_vote_label(codes)
    again = wide.index.get_indexer(samples_of(reviewed))
    undecided = np.flatnonzero(reviewed.kinds == 0)
    assert (np.asarray(found)[again][undecided] == reviewed.given[undecided]).all()


def test_fiftyone_reads_the_layout(reviewed: Audit, tmp_path: Path) -> None:
    pytest.importorskip("fiftyone")
    from fiftyone.utils.data import FiftyOneImageClassificationDatasetImporter

    export(reviewed, tmp_path / "fo", format="fiftyone")
    with FiftyOneImageClassificationDatasetImporter(str(tmp_path / "fo")) as importer:
        read = {Path(path).stem: label for path, _, label in importer}
    assert len(read) == reviewed.n
    for i in range(reviewed.n):
        label = read[Path(reviewed.sample_name(i)).stem]
        assert label.label == f"class{reviewed.current[i]}"
        decision = reviewed.decision(i)
        assert getattr(label, "decision", None) == (decision and decision.kind)
        assert label.path == reviewed.sample_name(i)
        given = reviewed.current[i] == reviewed.given[i]
        assert label.confidence == (reviewed.score(i) if given else None)


def test_label_studio_takes_the_predictions(reviewed: Audit, tmp_path: Path) -> None:
    interfaces = pytest.importorskip("label_studio_sdk.label_interface")
    choices = "".join(f'<Choice value="class{c}"/>' for c in range(3))
    interface = interfaces.LabelInterface(
        '<View><Image name="image" value="$image"/>'
        f'<Choices name="label" toName="image" choice="single">{choices}</Choices></View>'
    )
    export(reviewed, tmp_path / "tasks.json", format="label-studio")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    for task in tasks:
        assert interface.validate_task({"data": task["data"]})
        assert interface.validate_prediction(task["predictions"][0])
