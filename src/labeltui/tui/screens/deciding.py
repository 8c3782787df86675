"""A screen on which a person decides on the sample looked at."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from labeltui.text import safe
from labeltui.tui.actions import Keymap
from labeltui.tui.requirements import Context
from labeltui.tui.screens.base import TableScreen
from labeltui.tui.session import Session
from labeltui.tui.widgets.over import Item


class Deciding(TableScreen[None]):
    """Handlers of the decisions, and of undo and redo; a subclass paints the outcome in `decided`."""

    def __init__(self, session: Session, keymap: Keymap) -> None:
        super().__init__(keymap)
        self.session = session

    def looked_at(self) -> int | None:
        """Return the sample that a key decides on."""
        return self.session.sample

    def decided(self) -> None:
        """Paint after a decision, an undo or a redo."""
        raise NotImplementedError

    def context(self) -> Context:
        session = self.session
        sample = self.looked_at()
        return Context(
            sample=sample is not None,
            suggestions=len(session.suggestions(sample)) if sample is not None else 0,
            recent=len(session.recent),
            selected=len(session.selected),
            read_only=session.audit.read_only,
            training=self.host.training.active,
            can_train=self.host.training.possible,
            finished=session.finished,
            images=session.audit.images.present,
            key=self.keymap.hint,
        )

    def decide(
        self,
        kind: str,
        label: int | ArrayLike | None = None,
        second: int | None = None,
        samples: Sequence[int] = (),
    ) -> None:
        """Make a decision and show it.

        Parameters
        ----------
        kind : str
            One of `labeltui.audit.KINDS`.
        label : int or array-like of int, optional
            For "relabel": one label, or one per sample.
        second : int, optional
            A second possible label.
        samples : sequence of int
            By default the current sample.
        """
        if not samples:
            sample = self.looked_at()
            if sample is None:
                return
            samples = [sample]
        outcome = self.session.decide(samples, kind, label, second)
        self.decided()
        if outcome.finished:
            self.say(f"{outcome.words}. {self.session.what_next()}", "good")
        else:
            self.say(outcome.words, outcome.style)
        self.host.decided()

    def do_suggestion(self, number: int) -> None:
        sample = self.looked_at()
        assert sample is not None
        self.decide("relabel", self.session.suggestions(sample)[number - 1][0])

    def do_recent(self, number: int) -> None:
        self.decide("relabel", self.session.recent[number - 1])

    def do_keep(self) -> None:
        self.decide("keep")

    def do_exclude(self) -> None:
        self.decide("exclude")

    def do_unsure(self) -> None:
        self.decide("unsure")

    def do_skip(self) -> None:
        self.decide("skip")

    def do_find_class(self) -> None:
        def take(label: int) -> None:
            self.decide("relabel", label)

        self.panel.find("Relabel to which class?", self.class_items(), take)

    def do_ambiguous(self) -> None:
        def take(label: int) -> None:
            self.decide("ambiguous", second=None if label < 0 else label)

        items = [Item("no second label", -1), *self.class_items()]
        self.panel.find("Ambiguous: which other label is right too?", items, take)

    def class_items(self) -> list[Item[int]]:
        """Return all classes: those behind a digit first, then in their order."""
        session, audit = self.session, self.session.audit
        sample = self.looked_at()
        digits: dict[int, str] = {}
        if sample is not None:
            digits = {label: str(n) for n, (label, _) in enumerate(session.suggestions(sample), 1)}
        for n, label in enumerate(session.recent, 6):
            digits.setdefault(label, str(n))
        items = []
        for label in (*digits, *(k for k in range(audit.K) if k not in digits)):
            name, id_ = audit.names[label], safe(audit.class_ids[label])
            items.append(Item(name if name == id_ else f"{name}  {id_}", label, digits.get(label, "")))
        return items

    def do_note(self) -> None:
        sample = self.looked_at()
        assert sample is not None
        audit = self.session.audit
        name = audit.sample_name(sample)

        def take(text: str) -> None:
            audit.note(sample, text)
            self.decided()
            self.say(f"note on {name}: {safe(text)}" if text else f"no note on {name} any more")

        self.panel.ask(f"Note on {name}", take, audit.note_of(sample) or "", "an empty note removes it")

    def do_undo(self) -> None:
        self._history("undo")

    def do_redo(self) -> None:
        self._history("redo")

    def _history(self, command: str) -> None:
        outcome = self.session.history(command)
        if outcome is None:
            self.say(f"nothing to {command}", "warn")
            return
        self.decided()
        self.say(outcome.words, outcome.style)
