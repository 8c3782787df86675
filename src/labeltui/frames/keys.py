"""Keys: a parser in front of Textual's that tells Escape, and what the terminal answers, from other keys."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from textual import constants, events
from textual.drivers import linux_driver

from labeltui.frames.internals import XTermParser, usable

if TYPE_CHECKING:
    from textual.driver import Driver
    from textual.message import Message

MOMENT, LATEST = 0.3, 10.0
"""Seconds after which what may begin an answer is taken for a key: nobody types more than two of its characters."""

_ESCAPE = re.compile(
    r"\x1b\[20(?P<paste>[01])~"
    r"|(?P<colour>\x1b\]\d+;rgba?:[\da-fA-F/]*(?:\x07|\x1b\\))"
    r"|(?P<open>\x1b(?:\](?:\d+(?:;(?:r?g?b?|rgba?:[\da-fA-F/]*\x1b?))?)?)?\Z)"
    r"|\x1b(?![\[OP_^X])"
)
"""Begin and end of pasted text; a colour that an earlier program asked for; what may still become one; and an Escape
that begins none of the sequences that terminals send."""


class AnswerReader(Protocol):
    """Takes the terminal's answers out of what it sends, in pieces of any size."""

    done: bool
    """Whether a batch of answers is complete."""
    held: str
    """What may be the beginning of an answer."""

    def feed(self, text: str) -> str:
        """Read a piece; return what of it is no answer."""
        ...

    def release(self) -> str:
        """Return what was held back, which is no answer after all."""
        ...

    def renew(self) -> None:
        """Begin with the next batch of answers."""
        ...


def listening(
    base: type[Driver],
    reader: AnswerReader,
    heard: Callable[[], None],
    expecting: Callable[[], bool],
    ahead: str = "",
) -> type[Driver]:
    """Return a driver class that takes the terminal's answers out of the keys.

    Parameters
    ----------
    base : type
        Textual's driver for POSIX terminals; any other is returned unchanged.
    reader : AnswerReader
    heard : callable
        Called in the input thread when the reader has a complete batch of answers.
    expecting : callable
        Tells whether answers may still come; otherwise the keys are left alone.
    ahead : str
        What arrived before the driver listened; read before all other keys.
    """
    if not usable() or not issubclass(base, linux_driver.LinuxDriver):
        return base
    module: Any = linux_driver

    class Parser(XTermParser):
        """Textual's parser of keys, behind a reader of answers."""

        def __init__(self, debug: bool = False) -> None:
            super().__init__(debug)
            self._since = 0.0
            self._held, self._held_since = "", 0.0  # an Escape that something may still follow
            self._pasting = False
            self._ahead = ahead

        def feed(self, data: str) -> Iterable[Message]:
            data, self._ahead = self._ahead + data, ""
            if data and (expecting() or reader.held):
                data = reader.feed(data)
                self._since = time.monotonic()
                if reader.done:
                    heard()
                    reader.renew()
                if not data:
                    return
            elif not data and (held := reader.release()):
                yield from self._keys(held)
            if data:
                yield from self._keys(data)
            else:
                yield from super().feed(data)

        def _keys(self, data: str) -> Iterable[Message]:
            """Read keys; an Escape that begins no sequence is a key, whatever arrives together with it.

            Textual takes Escape and the key behind it for Alt and that key, or for a character such as ¡ (Escape 1),
            and so loses both.
            """
            data, self._held = self._held + data, ""
            position = 0
            for match in _ESCAPE.finditer(data):
                yield from super().feed(data[position : match.start()]) if match.start() > position else ()
                position = match.start()
                if match["paste"]:
                    self._pasting = match["paste"] == "0"
                elif not self._pasting:
                    position = match.end()
                    if match["open"]:
                        self._held, self._held_since = match[0], time.monotonic()
                    elif not match["colour"]:
                        yield events.Key("escape", "\x1b")
            if position < len(data):
                yield from super().feed(data[position:])

        def tick(self) -> Iterable[Message]:
            if self._ahead:
                yield from self.feed("")
            # Escape, alone or with one key (Alt), looks like the beginning of an answer; after a moment it is a key.
            held = reader.held
            patience = MOMENT if len(held) <= 2 else LATEST
            if held and time.monotonic() - self._since > patience:
                yield from self._keys(reader.release())
            if self._held and time.monotonic() - self._held_since > constants.ESCAPE_DELAY:
                held, self._held = self._held, ""
                yield events.Key("escape", "\x1b")
                yield from super().feed(held[1:]) if held[1:] else ()
            yield from super().tick()

    class Listening(base):  # type: ignore[misc,valid-type]
        """Textual's driver with that parser."""

        def run_input_thread(self) -> None:
            def once(debug: bool = False) -> Parser:
                module.XTermParser = XTermParser
                return Parser(debug)

            # The driver makes its parser here, from its module's name for it, and nowhere else.
            module.XTermParser = once
            super().run_input_thread()

    return Listening
