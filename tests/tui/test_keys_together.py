"""Keys that arrive together decide on the samples that the same keys, typed slowly, decide on.

A real program in a pseudo-terminal gets the keys in one write, and one by one. What it wrote into the journal is
compared.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labeltui.audit import Audit
from tests.factories import make_audit
from tests.tui.pseudo import PLAIN, Terminal, child, line

PROGRAM = """
    from pathlib import Path
    from labeltui.audit import Audit
    from labeltui.tui.app import LabeltuiApp
    from labeltui.graphics import attach
    from labeltui.graphics.probe import detect

    path = Path({path!r})
    caps = detect("ascii")
    with Audit.open(path, reviewer="tester") as audit:

        app = LabeltuiApp(audit, train_after=0)
        handle = app._typed

        async def report(event):  # the program itself, and a line when it is through with a key
            await handle(event)
            audit.flush()
            print(json.dumps(getattr(event, "character", None) == {mark!r}), file=OUT)

        app._typed = report
        attach(app, caps, None)
        app.run()
"""
MARK = "\u2020"
"""A key that means nothing; the program says when it has come to it."""
ALPHABET = "jjjk1236 dzxauU\x1b\r/f:?'ngpcovVbm+hl\tG]\x12wse;"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_audit(tmp_path_factory.mktemp("keys"), n=120, classes=5, flips=0.25)


class Program:
    """A running review on a copy of an audit."""

    def __init__(self, terminal: Terminal, process: object, path: Path) -> None:
        self.terminal, self.process, self.path = terminal, process, path

    def type(self, keys: str, together: bool) -> None:
        """Type keys, then the mark, and wait until the program is through."""
        if together:
            self.terminal.type(keys + MARK)
            while not line(self.process):
                pass
        else:
            for key in (*keys, MARK):
                self.terminal.type(key)
                line(self.process)
                time.sleep(0.01)

    def decisions(self) -> list[tuple[object, ...]]:
        with Audit.open(self.path, read_only=True) as audit:
            return [
                (i, d.kind, d.label, d.second) for i in range(audit.n) if (d := audit.decision(i)) is not None
            ]


@contextmanager
def review(fresh: Path, place: Path) -> Iterator[Program]:
    path = place / "small.audit"
    shutil.copytree(fresh, path)
    terminal = Terminal(answer=PLAIN)
    env = {f"XDG_{name}_HOME": str(place / name.lower()) for name in ("CONFIG", "STATE", "CACHE")}
    try:
        with child(PROGRAM.format(path=str(path), mark=MARK), terminal, place, **env) as process:
            terminal.answered(1)
            yield Program(terminal, process, path)
    finally:
        terminal.close()


def compare(fresh: Path, tmp_path: Path, bursts: list[str]) -> None:
    found = []
    for together in (True, False):
        with review(fresh, tmp_path / str(together)) as program:
            states = []
            for burst in bursts:
                program.type(burst, together)
                states.append(program.decisions())
            found.append(states)
    for burst, one, other in zip(bursts, *found, strict=True):
        assert one == other, f"{burst!r} decides otherwise when its keys arrive together"


# Escape three times leads back to the review screen from wherever keys may have led.
HOME = "\x1b\x1b\x1b\x1b"


def test_named_bursts(fresh: Path, tmp_path: Path) -> None:
    keys = [" ", "jd", "jjj1", "jjjd", "\x1b1", "G1", "j" * 30 + "d", "uU", "'d", "?d"]
    keys += [key + HOME for key in ("/dz", "fd", ":zz", "nd", "gjd", "p\rd", "nnd", "+]d", "vvvb\r", "cd")]
    compare(fresh, tmp_path, keys)


def test_random_bursts(fresh: Path, tmp_path: Path) -> None:
    rng = random.Random(0)
    bursts = []
    for _ in range(25):
        length = rng.choice((2, 3, 5, 8, 13, 40))
        bursts.append("".join(rng.choice(ALPHABET) for _ in range(length)) + HOME)
    compare(fresh, tmp_path, bursts)
