"""The table of actions and what is made of it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from labeltui.tui import actions
from labeltui.tui.actions import ACTIONS, BY_ID, Keymap, collapsed, of_screen
from labeltui.tui.requirements import Context

SCREENS = {
    "review": "labeltui.tui.screens.review:ReviewScreen",
    "neighbours": "labeltui.tui.screens.neighbours:NeighboursScreen",
    "image": "labeltui.tui.screens.image:ImageScreen",
    "sheet": "labeltui.tui.screens.sheet:SheetScreen",
    "pairs": "labeltui.tui.screens.pairs:PairsScreen",
    "conflicts": "labeltui.tui.screens.conflicts:ConflictsScreen",
    "bulk": "labeltui.tui.screens.bulk:BulkScreen",
    "runs": "labeltui.tui.screens.runs:RunsScreen",
    "comparison": "labeltui.tui.screens.comparison:ComparisonScreen",
    "plots": "labeltui.tui.screens.plots:PlotsScreen",
}
TAKEN = {"ctrl+a", "ctrl+b", "ctrl+p", "ctrl+q", "ctrl+s", "ctrl+h", "ctrl+i", "ctrl+j", "ctrl+m", "ctrl+z"}
"""By multiplexers, containers, flow control, job control, or because terminals send another key for it."""


def screen_class(name: str) -> type:
    module, _, attribute = SCREENS[name].partition(":")
    return getattr(import_module(module), attribute)


def test_every_screen_of_the_table_exists_and_has_each_handler() -> None:
    for action in ACTIONS:
        for screen in action.screens:
            assert hasattr(screen_class(screen), f"do_{action.handler}"), (action.id, screen)


def test_ids_are_unique_and_no_key_means_two_things_on_one_screen() -> None:
    assert len(BY_ID) == len(ACTIONS)
    for screen in SCREENS:
        keys = [key for action in of_screen(screen) for key in action.keys]
        assert len(keys) == len(set(keys)), screen
    assert Keymap().problems == []


def test_no_action_needs_a_key_that_something_else_takes() -> None:
    for action in ACTIONS:
        if action.keys:
            assert set(action.keys) - TAKEN, action.id
            assert not any("alt+" in key for key in action.keys), action.id


def test_a_wish_moves_a_key_and_says_whom_it_robbed() -> None:
    keymap = Keymap({"keep": ["y"], "skip": ["space"]})
    assert keymap.keys("keep") == ("y",)
    assert keymap.keys("skip") == ("space",)
    assert keymap.keys("undo") == ("u",)
    assert keymap.problems == []
    robbed = Keymap({"keep": ["z"]})
    assert robbed.keys("keep") == ("z",)
    assert robbed.keys("unsure") == ()
    assert robbed.problems == ["keys: z now means keep; unsure has no key left"]


def test_clashing_and_unknown_wishes_are_named() -> None:
    keymap = Keymap({"keep": ["y"], "skip": ["y"], "kep": ["w"]})
    assert keymap.keys("keep") == ("y",)
    assert keymap.keys("skip") == ()
    assert keymap.problems == [
        "keys: there is no action kep; did you mean keep?",
        "keys: y is wished for keep and skip; keep has it",
    ]


def test_wished_characters_are_given_the_terminals_names() -> None:
    assert Keymap({"keep": ["+", "?"]}).keys("keep") == ("plus", "question_mark")


def test_laws_explain_themselves() -> None:
    free = Context(sample=True, suggestions=3)
    assert BY_ID["keep"].requires(free) == ""
    assert BY_ID["suggestion-3"].requires(free) == ""
    assert BY_ID["suggestion-4"].requires(free) == "there is no suggestion 4"
    assert "reading only" in BY_ID["keep"].requires(Context(sample=True, read_only=True))
    assert BY_ID["keep"].requires(Context()) == "no sample is open"
    assert BY_ID["cancel-training"].requires(free) == "no training job is running"
    assert "[cancel-training] cancels" in BY_ID["train"].requires(Context(training=True))


def test_families_are_shown_as_ranges() -> None:
    keymap = Keymap()
    assert keymap.shown(BY_ID["suggestion-1"]) == "1-5"
    assert keymap.shown(BY_ID["recent-1"]) == "6-9"
    assert [action.id for action in collapsed(ACTIONS)].count("suggestion-1") == 1
    assert "suggestion-2" not in [action.id for action in collapsed(ACTIONS)]


def test_the_manual_of_keys_is_current() -> None:
    manual = Path(__file__).parents[2] / "docs" / "keys.md"
    assert manual.read_text() == actions.manual(), "run: python -m labeltui.tui.actions > docs/keys.md"


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.id)
def test_every_action_is_described(action: actions.Action) -> None:
    assert action.description
    assert not action.description.endswith(".")
    assert action.group in actions.GROUPS
