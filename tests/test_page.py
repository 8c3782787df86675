"""The report as a page: complete, self-contained, accessible, and safe with any names."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labeltui import page
from labeltui.audit import Audit
from labeltui.cli import cli
from labeltui.embed import EmbedSpec
from labeltui.errors import UsageError
from labeltui.scanning import ScanOptions, scan
from labeltui.sharing import merge
from labeltui.train.compare import compare
from tests.factories import HEAD, make_audit
from tests.runs import finished


class Parsed(HTMLParser):
    """Elements with their attributes, and the text of headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture
def reviewed(tmp_path: Path) -> Path:
    """Two reviewers, with corrections, a conflict and more than 30 decisions."""
    first = make_audit(tmp_path, n=240, classes=3, flips=0.2)
    shutil.copytree(first, tmp_path / "bob.audit")
    for path, name in ((first, "ada"), (tmp_path / "bob.audit", "bob")):
        with Audit.open(path, reviewer=name) as audit:
            for i in range(0, 200, 5):
                audit.decide([i], "keep")
            first_flag = int(audit.queue()[0])
            kind = {"ada": "relabel", "bob": "exclude"}[name]
            audit.decide(
                [first_flag], kind, label=int(audit.suggested[first_flag, 0]) if name == "ada" else None
            )
    merge([first, tmp_path / "bob.audit"])
    return first


def test_it_tells_everything_in_one_file_that_loads_nothing(reviewed: Path) -> None:
    with Audit.open(reviewed, read_only=True) as audit:
        text = page.document(audit)
        assert page.document(audit) == text
        parsed = Parsed(text)
        assert parsed.open == []
        assert parsed.texts["h2"] == [
            "Classes",
            "Pairs of classes that overlap",
            "Spectrum",
            "Map of the samples",
            "Labels most likely wrong",
            "Corrected labels",
            "Reviewers who disagree",
            "Are the probabilities right?",
            "Decisions",
        ]
        assert f"{audit.n:,} samples in 3 classes" in text
    assert not parsed.all("script")
    assert not parsed.all("link")
    for _, attrs in parsed.elements:
        for name in ("src", "href"):
            assert (attrs.get(name) or "data:").startswith(("data:", "#"))
        assert not [name for name in attrs if name.startswith("on")]
    assert "http" not in re.sub(r'xmlns="[^"]*"|http-equiv', "", text)
    assert "default-src 'none'" in text


def test_runs_stand_beside_the_first(tmp_path: Path) -> None:
    path = make_audit(tmp_path)
    runs = [finished(path, "current", 0, accuracy) for accuracy in (0.6, 0.9)]
    with Audit.open(path, read_only=True) as audit:
        text = page.document(audit)
        before, after = (row.metrics.accuracy for row in compare(audit, runs).rows)
    assert "Accuracy of run 1 and of each later one" in text
    for shown in (f"{before:.4f}", f"{after:.4f}", f"{after - before:+.4f}"):
        assert f">{shown}</td>" in text


def test_it_can_be_read_without_seeing(reviewed: Path) -> None:
    with Audit.open(reviewed, read_only=True) as audit:
        parsed = Parsed(page.document(audit))
    assert parsed.all("html")[0]["lang"] == "en"
    assert len(parsed.all("h1")) == 1
    assert parsed.all("img")
    assert all(attrs.get("alt") for attrs in parsed.all("img"))
    assert all(attrs.get("role") == "img" and attrs.get("aria-label") for attrs in parsed.all("svg"))
    assert all(attrs.get("scope") in ("row", "col") for attrs in parsed.all("th"))
    assert len(parsed.all("caption")) == len(parsed.all("table"))
    assert len(parsed.all("figcaption")) == len(parsed.all("figure"))
    targets = {attrs["href"] for attrs in parsed.all("a")}
    assert targets == {f"#{attrs['id']}" for attrs in parsed.all("h2")}


def test_names_are_text(tmp_path: Path) -> None:
    evil = '<img src=x onerror="alert(1)">'
    rng = np.random.default_rng(0)
    for label in (evil.replace("/", ""), "b&b"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / label / f"<b>{i}\x1b[31m.png")
    scan(
        tmp_path / "data",
        tmp_path / "x.audit",
        ScanOptions(embed=EmbedSpec("pixels", image_size=4, workers=0), head=HEAD),
    )
    with Audit.open(tmp_path / "x.audit", reviewer="<script>x</script>") as audit:
        audit.decide([0], "relabel", label=1)
        text = page.document(audit)
    parsed = Parsed(text)
    assert "\x1b" not in text
    assert not parsed.all("script")
    assert not parsed.all("b")
    assert all("onerror" not in attrs for attrs in parsed.all("img"))


def test_an_audit_of_embeddings_without_decisions(tmp_path: Path) -> None:
    with Audit.open(make_audit(tmp_path, n=120, classes=3, images=False), read_only=True) as audit:
        parsed = Parsed(page.document(audit))
    assert not parsed.all("img")
    assert "Decisions" not in parsed.texts["h2"]


def test_a_file_is_not_replaced(reviewed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "r.html"
    cli.main(["report", str(reviewed), "-o", str(out), "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["bytes"] == out.stat().st_size
    with Audit.open(reviewed, read_only=True) as audit:
        with pytest.raises(UsageError):
            page.write(audit, out)
        with pytest.raises(UsageError):
            page.write(audit, reviewed / "audit.h5", force=True)
        page.write(audit, out, force=True)


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize(("width", "dark"), [(1100, False), (400, False), (1100, True)])
def test_a_browser_shows_it(reviewed: Path, tmp_path: Path, width: int, dark: bool) -> None:
    with Audit.open(reviewed, read_only=True) as audit:
        page.write(audit, tmp_path / "r.html")
    assert CHROMIUM is not None
    subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            *(["--force-dark-mode"] if dark else []),
            f"--window-size={width},3000", f"--screenshot={tmp_path / 'r.png'}", f"--user-data-dir={tmp_path / 'p'}",
            (tmp_path / "r.html").as_uri(),
        ],
        check=True, timeout=100, capture_output=True,
    )  # fmt: skip
    with Image.open(tmp_path / "r.png") as shot:
        pixels = np.asarray(shot.convert("RGB")).astype(int)
    background = pixels[5, 5]
    assert (background.mean() < 60) == dark
    ink = (np.abs(pixels - background).sum(2) > 60).mean(1)  # per line of pixels
    assert (ink > 0).mean() > 0.3
    assert np.abs(pixels - background).sum(2)[:, -8:].max() == 0  # nothing runs out of the page


def test_a_map_by_umap_says_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    audit = make_audit(tmp_path, images=False)
    with Audit.open(audit, read_only=True) as opened, pytest.raises(UsageError, match="umap-learn"):
        page.write(opened, tmp_path / "umap.html", layout="umap")
    assert not (tmp_path / "umap.html").exists()


@pytest.mark.libraries
def test_the_map_by_umap_shows_the_same_samples(tmp_path: Path) -> None:
    pytest.importorskip("umap")
    audit = make_audit(tmp_path, images=False)
    with Audit.open(audit, read_only=True) as opened:
        page.write(opened, tmp_path / "pca.html")
        page.write(opened, tmp_path / "umap.html", layout="umap")
    said = (tmp_path / "umap.html").read_text()
    assert "Placed by UMAP" in said
    assert said.count("<circle") == (tmp_path / "pca.html").read_text().count("<circle")
