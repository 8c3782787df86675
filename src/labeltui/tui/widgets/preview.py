"""The sample looked at: its picture, why it is here, and what can be chosen."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Vertical

from labeltui.tui.session import Session
from labeltui.tui.widgets.paint import Lines, Piece, bar, fit, fit_end, number
from labeltui.tui.widgets.queue import MARKS


class Preview(Vertical, can_focus=True):
    """Right pane of the review screen."""

    def __init__(self, session: Session) -> None:
        super().__init__(id="preview")
        self.session = session
        self.picture = Lines(id="picture")
        self.facts = Lines(id="facts")
        self.choices = Lines(id="choices")

    def compose(self) -> ComposeResult:
        yield self.picture
        yield self.facts
        yield self.choices

    def show(self) -> None:
        """Show the session's sample."""
        sample = self.session.sample
        width, height = self.size.width, self.size.height
        if not width:
            return
        facts = self._facts(sample, width) if sample is not None else []
        choices = self._choices(sample, width, height >= 30) if sample is not None else []
        room = max(1, height - 8 - len(choices))
        facts = facts[: min(len(facts), room)]
        self.facts.styles.height = len(facts)
        self.choices.styles.height = len(choices)
        self.facts.show(facts)
        self.choices.show(choices)

    def title(self) -> list[Piece]:
        """Return the pane's title."""
        session, audit = self.session, self.session.audit
        sample = session.sample
        if sample is None:
            return []
        given = int(audit.given[sample])
        pieces: list[Piece] = [
            ("given ", "faint"),
            (audit.names[given] if given >= 0 else "no label", "strong"),
        ]
        decision = audit.decision(sample)
        if decision is not None:
            glyph, style = MARKS[decision.kind]
            pieces += [("  ", "plain"), (f"{glyph} {decision.kind}", style)]
            if decision.kind == "relabel":
                pieces += [(" ", "plain"), (audit.names[int(audit.current[sample])], style)]
        elif suggestions := audit.suggestions(sample):
            label, p = suggestions[0]
            pieces += [("  suggest ", "faint"), (audit.names[label], "link"), (" " + number(p), "faint")]
        return pieces

    def _facts(self, sample: int, width: int) -> list[list[Piece]]:
        audit = self.session.audit
        evidence = audit.evidence(sample)
        lines: list[list[Piece]] = []
        for n, text in enumerate(evidence.lines):
            lines.append([("why  " if n == 0 else "     ", "title"), (fit(text, width - 5), "plain")])
        lines.append([("file ", "title"), (fit_end(audit.sample_name(sample), width - 5), "faint")])
        return lines

    def _choices(self, sample: int, width: int, tall: bool) -> list[list[Piece]]:
        session, audit = self.session, self.session.audit
        suggestions = audit.suggestions(sample)
        lines: list[list[Piece]] = []
        if tall:
            names = min(24, max((len(audit.names[label]) for label, _ in suggestions), default=4))
            for n, (label, p) in enumerate(suggestions, 1):
                full, empty = bar(p, max(0, width - names - 9))
                lines.append(
                    [
                        (f" {n} ", "key"),
                        (fit(audit.names[label], names), "strong" if n == 1 else "plain"),
                        (" " + fit(number(p), 3, right=True) + " ", "faint"),
                        (full, "bar"),
                        (empty, "plain"),
                    ]
                )
        else:
            lines += _wrap(
                [(str(n), audit.names[label], number(p)) for n, (label, p) in enumerate(suggestions, 1)],
                width,
            )
        used = [(str(n), audit.names[label], "") for n, label in enumerate(session.recent, 6)]
        lines += _wrap(used, width)
        return lines


def _wrap(choices: list[tuple[str, str, str]], width: int) -> list[list[Piece]]:
    lines: list[list[Piece]] = []
    line: list[Piece] = []
    used = 0
    for key, name, more in choices:
        name = fit(name, min(len(name), 24))
        size = len(key) + len(name) + len(more) + 4
        if line and used + size > width:
            lines.append(line)
            line, used = [], 0
        line += [(f" {key} ", "key"), (name, "plain"), (f" {more} " if more else "  ", "faint")]
        used += size
    return [*lines, line] if line else lines
