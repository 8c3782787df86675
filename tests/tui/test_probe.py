"""Asking the terminal: in a pseudo-terminal whose other side answers late, at once, in pieces, or never."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from labeltui.errors import UsageError
from labeltui.graphics.answers import Answers, Reader, question
from labeltui.graphics.capabilities import Capabilities, Cell, choose, from_environment
from labeltui.graphics.probe import decide, detect, identity, recall, remember
from tests.tui.pseudo import KITTY, PLAIN, UTF8, XTERM, Terminal, child, line


def test_answers_after_any_time(tmp_path: Path) -> None:
    terminal = Terminal()
    script = """
        import termios, time, select
        from labeltui.graphics.probe import detect
        print(json.dumps("ready"), file=OUT)
        while True:
            input()
            before = termios.tcgetattr(0)
            start = time.monotonic()
            caps = detect(fresh=True)
            seconds = time.monotonic() - start
            restored = termios.tcgetattr(0) == before
            pending = bool(select.select([0], [], [], 0)[0])
            print(json.dumps([caps.kind, caps.registers, caps.cell.height, caps.synchronised, restored, pending,
                              seconds]), file=OUT)
    """
    with child(script, terminal, tmp_path) as process:
        assert line(process) == "ready"
        for delay in (0.0, 0.05, 0.15, 0.8):
            terminal.delay = delay
            terminal.type("\n")
            *found, seconds = line(process)
            assert found == ["sixel", 256, 20, True, True, False]
            assert delay <= seconds < delay + 0.35
        terminal.chunk = 7  # in pieces, as a slow line delivers them
        terminal.delay = 0.0
        terminal.type("\n")
        assert line(process)[:3] == ["sixel", 256, 20]
        terminal.delay = None
        terminal.type("\n")
        kind, *_, restored, pending, seconds = line(process)
        assert (kind, restored, pending) == ("blocks", True, False)
        assert 1.2 <= seconds < 1.6
        assert terminal.questions == 6
    terminal.close()


APP = """
    from textual.app import App
    from PIL import Image
    from labeltui.graphics import ImageView, attach, canvas_of
    from labeltui.graphics.probe import detect

    class Log(App):
        ENABLE_COMMAND_PALETTE = False
        def compose(self):
            yield ImageView()
        def on_mount(self):
            self.query_one(ImageView).show(1, Image.effect_noise((32, 32), 90))
        def on_ready(self):
            print(json.dumps("ready"), file=OUT)
        def on_key(self, event):
            caps = canvas_of(self).caps
            print(json.dumps([event.key, caps.kind, caps.cell.width]), file=OUT)
            if event.key == "q":
                self.exit()

    app = Log()
    caps = detect(budget=BUDGET)
    print(json.dumps([caps.kind, caps.source]), file=OUT)
    attach(app, caps)
    app.run()
"""


def test_late_answers_are_no_keys_and_still_count(tmp_path: Path) -> None:
    terminal = Terminal(delay=0.6, chunk=11)
    with child(APP.replace("BUDGET", "0.1"), terminal, tmp_path) as process:
        assert line(process) == ["blocks", "terminal"]
        assert line(process) == "ready"
        assert terminal.answered(2)  # the probe's question, and the program's own
        deadline = time.monotonic() + 20
        while not terminal.screen.images_received and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)
        terminal.type("\x1b]11;rgb:1e1e/1e1e")  # what an earlier program asked for; no key either
        terminal.type("/1e1e\x1b\\\x1b")
        assert line(process) == ["escape", "sixel", 10]  # the first key ever seen is the one that was typed
        terminal.type("q")
        assert line(process)[0] == "q"
        process.wait(10)
    assert terminal.screen.drawn.any() or terminal.screen.images_received
    terminal.close()


def test_remembered_answers_save_the_wait_and_are_checked(tmp_path: Path) -> None:
    first = Terminal(KITTY)
    with child(APP.replace("BUDGET", "1.2"), first, tmp_path) as process:
        assert line(process) == ["kitty", "terminal"]
        assert line(process) == "ready"
        first.type("q")
        line(process)
        process.wait(10)
    assert not first.screen.images  # freed on the way out
    first.close()
    other = Terminal(XTERM, delay=0.1)  # the same environment, another terminal
    with child(APP.replace("BUDGET", "1.2"), other, tmp_path) as process:
        assert line(process) == ["kitty", "cache"]
        assert line(process) == "ready"
        deadline = time.monotonic() + 10
        while not other.screen.drawn.any() and time.monotonic() < deadline:
            time.sleep(0.02)
        other.type("q")
        assert line(process) == ["q", "sixel", 10]
        process.wait(10)
    other.close()


@pytest.mark.parametrize("budget", ["1.2", "0.2"], ids=["answers in time", "answers late"])
def test_keys_typed_while_the_terminal_is_asked_are_not_lost(budget: str, tmp_path: Path) -> None:
    terminal = Terminal(delay=0.4, chunk=30)  # the first half of an answer comes before the keys
    with child(APP.replace("BUDGET", budget), terminal, tmp_path) as process:
        until(lambda: terminal.questions)
        terminal.type("jé")
        assert line(process)[1] == "terminal"
        assert line(process) == "ready"
        assert [line(process)[0] for _ in range(2)] == ["j", "é"]
        assert terminal.answered(2 if budget == "0.2" else 1)
        terminal.type("q")
        assert line(process)[0] == "q"
        process.wait(10)
    terminal.close()


def until(holds: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_no_terminal_is_no_wait(tmp_path: Path) -> None:
    script = "from labeltui.graphics.probe import detect; import time; s = time.monotonic();"
    script += "c = detect(); print(c.kind, c.source, time.monotonic() - s < 0.5)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), **UTF8},
        check=True,
    )
    assert done.stdout.split() == ["blocks", "environment", "True"]


class TestReader:
    @pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 1000])
    def test_reads_answers_in_pieces_of_any_size(self, size: int) -> None:
        reader = Reader()
        text = "ab" + XTERM + "c\x1b[Ad"
        keys = "".join(reader.feed(text[i : i + size]) for i in range(0, len(text), size)) + reader.release()
        assert reader.done
        assert keys.replace("\x1b[?2026;2$y", "") == "abc\x1b[Ad"
        answers = reader.answers
        assert answers.da1 == (63, 1, 2, 4, 22)
        assert (answers.version, answers.cell, answers.geometry) == ("XTerm(390)", (10, 20), (800, 480))
        assert (answers.registers, answers.most_registers) == (16, 1024)

    @pytest.mark.parametrize(
        "keys",
        [
            "\x1b",
            "\x1b[A",
            "\x1b[1;5D",
            "\x1bOP",
            "x",
            "\x1b[<0;3;4M",
            "\x1b[200~\x1b[?x",
            "é",
            "\x1b[97;;97u",
        ],
    )
    def test_leaves_keys_alone(self, keys: str) -> None:
        reader = Reader(inside=True)
        assert reader.feed(keys) + reader.release() == keys
        assert not reader.done

    def test_an_endless_answer_is_let_go(self) -> None:
        reader = Reader(inside=True)
        assert len(reader.feed("\x1bP>|" + "x" * 400)) > 100


class TestDecide:
    def answers(self, text: str) -> Answers:
        reader = Reader()
        reader.feed(text)
        return reader.answers

    def test_kitty_before_sixel_before_blocks(self) -> None:
        assert decide(UTF8, self.answers(KITTY)).kind == "kitty"
        assert decide(UTF8, self.answers(XTERM)).kind == "sixel"
        both = "\x1b_Gi=4207;OK\x1b\\\x1bP>|xterm.js(6.1)\x1b\\\x1b[6;20;10t\x1b[?62;4;22c"
        assert decide(UTF8, self.answers(both)).kind == "sixel"
        assert decide(UTF8, self.answers(both.replace("xterm.js(6.1)", "ghostty 1.2"))).kind == "kitty"
        assert decide(UTF8, self.answers(both.replace("\x1b[6;20;10t", ""))).kind == "kitty"
        assert decide(UTF8, self.answers(PLAIN)).kind == "blocks"
        assert decide(UTF8, Answers()).kind == "blocks"

    def test_tmux_draws_sixel_only_if_it_says_so(self) -> None:
        tmux = {**UTF8, "TMUX": "/tmp/tmux-0/default,1,0", "TERM": "tmux-256color"}
        assert decide(tmux, self.answers("\x1bP>|tmux 3.4\x1b\\\x1b[6;20;10t\x1b[?1;2;4c")).kind == "sixel"
        old = decide(tmux, self.answers("\x1b_Gi=4207;OK\x1b\\\x1bP>|tmux 3.3a\x1b\\\x1b[6;20;10t\x1b[?1;2c"))
        assert old.kind == "blocks"
        assert "tmux" in old.why
        assert "\x1b_G" not in question(tmux)

    def test_sixel_needs_the_size_of_a_cell(self) -> None:
        blind = self.answers("\x1b[?63;4c")
        assert decide(UTF8, blind).kind == "blocks"
        known = decide(UTF8, blind, (80, 24, 720, 456))
        assert (known.kind, known.cell) == ("sixel", Cell(9, 19))
        window = self.answers("\x1b[?2;0;720;456S\x1b[?63;4c")
        assert decide(UTF8, window, (80, 24, 0, 0)).cell == Cell(9, 19)

    def test_registers_are_asked_for_where_there_are_more(self) -> None:
        caps = decide(UTF8, self.answers(XTERM))
        assert (caps.registers, caps.set_registers) == (256, True)
        few = decide(UTF8, self.answers("\x1b[6;20;10t\x1b[?1;0;16S\x1b[?1;0;16S\x1b[?63;4c"))
        assert (few.registers, few.set_registers) == (16, False)

    def test_no_color_and_no_unicode(self) -> None:
        assert decide({**UTF8, "NO_COLOR": "1"}, self.answers(KITTY)).kind == "ascii"
        assert decide({**UTF8, "NO_COLOR": ""}, self.answers(KITTY)).kind == "kitty"
        latin = {**UTF8, "LANG": "de_DE.ISO-8859-1"}
        assert decide(latin, self.answers(PLAIN)).kind == "ascii"
        assert decide(latin, self.answers(XTERM)).kind == "sixel"

    @pytest.mark.parametrize(
        ("environment", "colours"),
        [
            ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "truecolor"),
            ({"TERM": "xterm-256color"}, "256"),
            ({"TERM": "linux"}, "16"),
            ({"TERM": "vt220"}, "none"),
            ({"TERM": "xterm-kitty"}, "truecolor"),
            ({"TERM": "dumb"}, "none"),
            ({"TERM": "xterm", "NO_COLOR": "1"}, "none"),
        ],
    )
    def test_colours_from_the_environment(self, environment: dict[str, str], colours: str) -> None:
        assert from_environment(environment).colours == colours

    def test_a_person_decides(self) -> None:
        assert choose(Capabilities(), "sixel").kind == "sixel"
        assert choose(Capabilities(kind="kitty"), "auto").kind == "kitty"
        with pytest.raises(UsageError) as caught:
            detect("pixels", environment={})
        assert "'pixels'" in caught.value.got


class TestMemory:
    def test_round_trip_and_damage(self, tmp_path: Path) -> None:
        file = tmp_path / "deep" / "terminals.json"
        answers = Answers(da1=(62, 4), version="x", cell=(8, 16), kitty=True, seconds=0.2)
        assert recall("a", file) is None
        remember("a", answers, file)
        assert recall("a", file) == answers
        assert recall("b", file) is None
        for number in range(60):
            remember(f"t{number}", answers, file)
        assert recall("t59", file) == answers
        assert recall("a", file) is None  # the oldest are forgotten
        for damage in (b"", b"[]", b"{", b'{"terminals": {"t59": 3}}', b"\xff"):
            file.write_bytes(damage)
            assert recall("t59", file) is None
            remember("t59", answers, file)
            assert recall("t59", file) == answers
        assert list(file.parent.iterdir()) == [file]

    def test_unwritable_cache_is_no_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        remember("a", Answers(), tmp_path / "file" / "terminals.json")

    def test_identity_tells_terminals_apart(self) -> None:
        base = identity(UTF8)
        assert identity({**UTF8, "TERM_PROGRAM": "WezTerm"}) != base
        assert identity({**UTF8, "TMUX": "/tmp/x"}) != base
        assert identity({**UTF8, "SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"}) != base
        two = [identity({**UTF8, "SSH_CONNECTION": f"10.0.0.1 {port} 10.0.0.2 22"}) for port in (1, 2)]
        assert two[0] == two[1]
