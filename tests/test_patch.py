"""Patches: from an audit to the table or tree it was made from, all of it or nothing."""

from __future__ import annotations

import codecs
import csv
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from labeltui import patch
from labeltui.audit import Audit
from labeltui.cli import cli
from labeltui.embed import EmbedSpec
from labeltui.errors import SourceError, UsageError
from labeltui.scanning import ScanOptions, scan
from labeltui.sources import SourceOptions
from tests.factories import HEAD, make_audit


def files_of(root: Path) -> dict[str, str]:
    return {
        os.path.relpath(path, root): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def tree(tmp_path: Path) -> tuple[Path, Path, dict[str, str]]:
    """A patch, its tree, and the tree as it should be."""
    with Audit.open(make_audit(tmp_path, n=120, classes=3), reviewer="ada") as audit:
        before = files_of(tmp_path / "data")
        expected = dict(before)
        for i in audit.queue().tolist()[:4]:
            audit.decide([i], "relabel", label=int(audit.suggested[i, 0]))
            name = audit.sample_name(i)
            moved = f"class{audit.suggested[i, 0]}/{Path(name).name}"
            expected[moved] = expected.pop(name)
        out = audit.queue().tolist()[5]
        audit.decide([out], "exclude", note="no animal")
        assert patch.diff(audit, tmp_path / "p.json") == 5
        excluded = audit.sample_name(out)
    expected[f".excluded/{excluded}"] = expected.pop(excluded)
    return tmp_path / "p.json", tmp_path / "data", expected


def test_a_tree_is_corrected_and_taken_back(tree: tuple[Path, Path, dict[str, str]]) -> None:
    file, root, expected = tree
    before = files_of(root)
    trial = patch.apply(file, root, drop_excluded=True, dry_run=True)
    assert files_of(root) == before
    assert patch.apply(file, root, drop_excluded=True) == trial == patch.Applied(4, 1, 0)
    assert files_of(root) == expected
    assert patch.apply(file, root, drop_excluded=True) == patch.Applied(0, 0, 5)
    assert patch.apply(file, root, drop_excluded=True, reverse=True) == patch.Applied(4, 1, 0)
    assert files_of(root) == before
    assert not (root / patch.LEFT_OUT).exists()


def test_another_image_is_refused_by_name_and_nothing_is_changed(
    tree: tuple[Path, Path, dict[str, str]],
) -> None:
    file, root, _ = tree
    change = patch.read(file)[-1]
    (root / change.path).write_bytes(b"another image")
    before = files_of(root)
    with pytest.raises(SourceError) as error:
        patch.apply(file, root, drop_excluded=True)
    assert change.path in error.value.got
    assert files_of(root) == before


def test_a_file_in_the_way_is_refused(tree: tuple[Path, Path, dict[str, str]]) -> None:
    file, root, expected = tree
    (new,) = sorted(set(expected) - set(files_of(root)) - {n for n in expected if n.startswith(".")})[:1]
    (root / new).write_bytes(b"mine")
    before = files_of(root)
    with pytest.raises(SourceError, match="reviewed"):
        patch.apply(file, root)
    assert files_of(root) == before


@pytest.mark.parametrize("path", ["../outside.png", "/etc/passwd", "class0/../../x.png"])
def test_a_patch_moves_nothing_outside_the_tree(tmp_path: Path, path: str) -> None:
    (tmp_path / "data" / "class0").mkdir(parents=True)
    change = {"path": path, "sha256": "0" * 64, "before": "class0", "after": "class1", "excluded": False}
    (tmp_path / "p.json").write_text(json.dumps({"labeltui_patch": 1, "changes": [change]}))
    with pytest.raises(SourceError):
        patch.apply(tmp_path / "p.json", tmp_path / "data")
    change |= {"path": "class0/a.png", "after": "../up"}
    (tmp_path / "p.json").write_text(json.dumps({"labeltui_patch": 1, "changes": [change]}))
    with pytest.raises(SourceError, match="directory"):
        patch.apply(tmp_path / "p.json", tmp_path / "data")


OPTIONS = SourceOptions(path_column="file", label_column="class")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table with columns of its own, in the directory of its images; audited and reviewed."""
    make_audit(tmp_path, n=120, classes=3)
    root = tmp_path / "data"
    with open(root / "labels.csv", "w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["nr", "file", "class", "text"])
        for number, path in enumerate(sorted(root.glob("*/*.png"))):
            writer.writerow([number, path.relative_to(root), path.parent.name, 'a; "b"'])
    spec = EmbedSpec("pixels", image_size=4, workers=0)
    scan(root / "labels.csv", tmp_path / "t.audit", ScanOptions(embed=spec, head=HEAD, source=OPTIONS))
    with Audit.open(tmp_path / "t.audit", reviewer="ada") as audit:
        for i in audit.queue().tolist()[:3]:
            audit.decide([i], "relabel", label=int(audit.suggested[i, 0]))
        audit.decide([0], "exclude")
        patch.diff(audit, tmp_path / "p.json")
    return root / "labels.csv"


def test_a_table_is_rewritten_with_the_corrected_labels_alone(table: Path, tmp_path: Path) -> None:
    def rows(path: Path) -> list[list[str]]:
        with open(path, newline="") as file:
            return list(csv.reader(file, delimiter=";"))

    done = patch.apply(tmp_path / "p.json", table, tmp_path / "new.csv", options=OPTIONS, drop_excluded=True)
    assert done == patch.Applied(3, 1, 0)
    expected = rows(table)
    with Audit.open(tmp_path / "t.audit", read_only=True) as audit:
        for row, label in zip(expected[1:], audit.current, strict=True):
            row[2] = f"class{label}"
    del expected[1]
    assert rows(tmp_path / "new.csv") == expected
    shutil.copy(tmp_path / "new.csv", table)
    again = patch.apply(tmp_path / "p.json", table, options=OPTIONS, drop_excluded=True, dry_run=True)
    assert again == patch.Applied(0, 0, 4)


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_rows_that_are_not_corrected_stay_as_they_were_typed(
    table: Path, tmp_path: Path, line_end: str, mark: bytes
) -> None:
    head, *lines = table.read_text().splitlines()
    lines = [
        f'"{line.partition(";")[0]}";{line.partition(";")[2]}' for line in lines
    ]  # quotes that nobody needs
    lines[5] = lines[5].replace("a; ", f"a;{line_end}\r ")  # a field of several lines
    table.write_bytes(
        mark + line_end.join([head, *lines[:9], "", *lines[9:]]).encode()
    )  # an empty line, none at the end
    patch.apply(tmp_path / "p.json", table, tmp_path / "new.csv", options=OPTIONS)
    before, after = (path.read_bytes().split(line_end.encode()) for path in (table, tmp_path / "new.csv"))
    assert len(before) == len(after)
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert len(changed) == 3
    for old, new in changed:
        assert old.count(b";") == new.count(b";")


def test_labels_that_somebody_else_changed_are_told_apart(table: Path, tmp_path: Path) -> None:
    change = next(each for each in patch.read(tmp_path / "p.json") if not each.excluded)
    text = table.read_text()
    other = next(c for c in ("class0", "class1", "class2") if c not in (change.before, change.after))
    table.write_text(text.replace(f"{change.path};{change.before}", f"{change.path};{other}"))
    with pytest.raises(SourceError) as error:
        patch.apply(tmp_path / "p.json", table, tmp_path / "new.csv", options=OPTIONS)
    assert "somebody else" in error.value.got
    assert not (tmp_path / "new.csv").exists()


def test_outputs_are_new_files(table: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        patch.apply(tmp_path / "p.json", table, table, options=OPTIONS)
    with pytest.raises(UsageError):
        patch.apply(tmp_path / "p.json", table, options=OPTIONS)
    with Audit.open(tmp_path / "t.audit", read_only=True) as audit, pytest.raises(UsageError):
        patch.diff(audit, tmp_path / "p.json")


def test_a_file_that_is_no_patch_is_refused(tmp_path: Path) -> None:
    for content in (
        "{}",
        "[]",
        "no",
        '{"labeltui_patch": 2, "changes": []}',
        '{"labeltui_patch": 1, "changes": [3]}',
    ):
        (tmp_path / "p.json").write_text(content)
        with pytest.raises(SourceError):
            patch.read(tmp_path / "p.json")


def test_the_commands(tree: tuple[Path, Path, dict[str, str]], capsys: pytest.CaptureFixture[str]) -> None:
    file, root, expected = tree
    audit = root.parent / "small.audit"
    cli.main(["diff", str(audit), "-o", str(file), "--force", "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["changes"] == 5
    cli.main(["apply", str(file), str(root), "--drop-excluded", "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out) == {
        "changed": 4, "excluded": 1, "done_before": 0, "dry_run": False
    }  # fmt: skip
    assert files_of(root) == expected
