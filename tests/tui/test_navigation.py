"""Where keys lead, where they decide, and how a person finds the key for what they want."""

from __future__ import annotations

from pathlib import Path

import pytest

from labeltui.tui.actions import BY_ID
from labeltui.tui.screens.image import ImageScreen
from labeltui.tui.synonyms import SYNONYMS
from labeltui.tui.widgets.over import Entry, Reader
from tests.factories import make_audit
from tests.tui.desk import at_desk


async def test_enter_opens_the_image_and_escape_comes_back(tmp_path: Path) -> None:
    async with at_desk(make_audit(tmp_path, n=120), size=(80, 24)) as desk:
        sample = desk.sample
        await desk.do("open")
        assert isinstance(desk.app.screen, ImageScreen)
        assert desk.screen[0].startswith(" review › IMAGE")
        await desk.do("back")
        assert desk.app.screen is desk.review
        assert desk.sample == sample


async def test_a_class_list_is_no_place_to_decide(tmp_path: Path) -> None:
    async with at_desk(make_audit(tmp_path, n=120)) as desk:
        await desk.do("previous-pane")
        assert desk.review.pane == "classes"
        await desk.do("keep", "suggestion-1", "exclude")
        assert desk.audit.summary().reviewed == 0
        assert desk.status == "decide in the queue: [tab] goes there"
        await desk.do("next-pane", "keep")
        assert desk.audit.summary().reviewed == 1


async def test_a_key_too_many_decides_nothing_on_a_finished_queue(tmp_path: Path) -> None:
    async with at_desk(make_audit(tmp_path, n=120)) as desk:
        for _ in range(len(desk.session.queue)):
            await desk.do("keep")
        last = desk.sample
        for id_ in ("exclude", "suggestion-2", "skip"):
            await desk.do(id_)
            decision = desk.audit.decision(last)
            assert decision is not None
            assert decision.kind == "keep"
            assert desk.status == "this queue is finished; [u] undoes the last decision, [↑] goes back"
        # somebody who goes back means it
        await desk.do("up", "exclude")
        assert desk.audit.decisions()["exclude"] == 1
        await desk.do("undo", "undo")
        await desk.do("keep")
        assert desk.audit.decisions()["keep"] == len(desk.session.queue)


async def test_sentences_name_the_keys_that_a_person_chose(tmp_path: Path) -> None:
    keys = {"undo": ["y"], "suggestion-1": ["i"], "next-pane": ["Q"]}
    async with at_desk(make_audit(tmp_path, n=120), size=(80, 24), keys=keys) as desk:
        assert "[i] " in desk.review.preview.choices.text
        assert "[1] " not in desk.review.preview.choices.text
        await desk.do("previous-pane", "keep")
        assert desk.status == "decide in the queue: [Q] goes there"
        await desk.press("Q")
        for _ in range(len(desk.session.queue)):
            await desk.do("keep")
        await desk.do("keep")
        assert "[y] undoes" in desk.status


async def test_help_is_searched_by_typing(tmp_path: Path) -> None:
    async with at_desk(make_audit(tmp_path, n=120)) as desk:
        await desk.do("pairs", "help")
        screen = desk.app.screen
        reader = screen.query_one(Reader)
        whole = ["".join(text for text, _ in line) for line in reader.text.text_lines]
        own = next(n for n, line in enumerate(whole) if BY_ID["swap"].description in line)
        common = next(n for n, line in enumerate(whole) if line.endswith(BY_ID["quit"].description))
        assert own < common
        await desk.type("other way")
        found = ["".join(text for text, _ in line) for line in reader.text.text_lines]
        assert 0 < len(found) < len(whole)
        assert any("the other way round" in line for line in found)
        assert not any(BY_ID["quit"].description in line for line in found)
        assert "search: other way" in desk.text
        await desk.type("zzz")
        assert "nothing holds this" in desk.text
        await desk.press("escape")
        assert not reader.is_open


def test_headings_are_left_out_of_a_search() -> None:
    assert Entry([[("DECIDE", "title")]], heading=True).text == "DECIDE"


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("delete", "exclude"),
        ("mistake", "undo"),
        ("gallery", "sheet"),
        ("confusion matrix", "pairs"),
        ("why", "neighbours"),
        ("color", "theme"),
        ("exit", "quit"),
        ("shortcuts", "help"),
        ("save csv", "export"),
        ("retrain", "train"),
        ("duplicates", "conflicts"),
        ("comment", "note"),
        ("when to stop", "noise-budget"),
        ("reset", "clear-filters"),
        ("repaint", "redraw"),
        ("moved", "source"),
    ],
)
async def test_the_palette_knows_the_words_that_a_person_types(
    typed: str, first: str, palette: list[tuple[str, str]]
) -> None:
    from labeltui.tui.widgets.over import Item, rank

    items = [Item(BY_ID[id_].label, id_, "", BY_ID[id_].description, also) for id_, also in palette]
    found = [items[place].value for place in rank(typed, items)]
    assert found[:1] == [first]


@pytest.fixture(scope="module")
def palette() -> list[tuple[str, str]]:
    return [
        (action.id, f"{action.group} {action.family} {SYNONYMS.get(action.id, '')}")
        for action in BY_ID.values()
        if "review" in action.screens
    ]


def test_synonyms_speak_of_actions() -> None:
    assert SYNONYMS.keys() <= BY_ID.keys()
