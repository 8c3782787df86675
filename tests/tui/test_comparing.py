"""What a person compares is in sight: given and suggested class, named columns, evidence, similarity, digits."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.cells import cell_len

from labeltui.tui.widgets.rows import Rows
from tests.factories import make_audit
from tests.tui.desk import Desk, at_desk
from tests.tui.drawn import draw_audit

NARROW = (80, 24)


async def _rest(desk: Desk) -> None:
    await desk.pilot.pause(0.05)


async def test_every_row_shows_both_classes_at_80_columns(tmp_path: Path) -> None:
    async with at_desk(draw_audit(tmp_path), size=NARROW) as desk:
        audit, session = desk.audit, desk.session
        rows = [line.split("│")[1] for line in desk.screen[3:19]]
        for sample, row in zip(session.queue.tolist(), rows, strict=False):
            given, suggested = audit.names[audit.given[sample]], audit.names[audit.suggestions(sample)[0][0]]
            left, right = row.strip(" ▌▁▂▃▄▅▆▇█").split(" → ")
            shown = left.split(maxsplit=2)[2]  # behind the name and the score
            assert given.startswith(shown.rstrip("…"))
            assert suggested.startswith(right.rstrip(" …"))
        # one class's queue still shows it, for a decision compares the two
        await desk.do("next-class")
        assert " → " in desk.screen[3].split("│")[1]


@pytest.mark.parametrize("size", [NARROW, (120, 40)])
async def test_every_list_names_its_columns(tmp_path: Path, size: tuple[int, int]) -> None:
    async with at_desk(draw_audit(tmp_path), size=size) as desk:
        for id_ in (None, "pairs", "conflicts", "runs"):
            if id_ is not None:
                await desk.do(id_)
                await _rest(desk)
            lists = [rows for rows in desk.app.screen.query(Rows) if rows.id not in ("matches", "text")]
            assert lists
            for rows in lists:
                heading = "".join(text for text, _ in rows.heading(rows.size.width - 2))
                assert rows.HEADED
                assert heading.strip()
                assert cell_len(heading) <= rows.size.width - 2
                assert heading.rstrip() in desk.text
            if id_ is not None:
                await desk.do("back")


async def test_a_heading_does_not_scroll_and_the_last_row_is_reached(tmp_path: Path) -> None:
    async with at_desk(make_audit(tmp_path, n=240), size=NARROW) as desk:
        rows = desk.review.queue
        assert rows.count() > rows.room
        await desk.do("bottom")
        assert "given → suggested" in desk.screen[2]
        last = desk.audit.sample_name(int(desk.session.queue[-1])).split("/")[-1][:-4]
        assert last in desk.screen[2 + rows.room].split("│")[1]
        await desk.do("top")
        first = desk.audit.sample_name(int(desk.session.queue[0])).split("/")[-1][:-4]
        assert first in desk.screen[3].split("│")[1]


async def test_neighbours_show_evidence_digits_and_similarity(tmp_path: Path) -> None:
    async with at_desk(make_audit(tmp_path), size=NARROW) as desk:
        audit = desk.audit
        await desk.do("suggestion-2")  # a class with the digit 6
        used = audit.names[desk.session.recent[0]]
        await desk.do("neighbours")
        sample = desk.sample
        text = desk.text
        assert "detector   proposes" in text
        assert "P(given)" in text
        assert "cos ." in text
        for n, (label, _) in enumerate(audit.suggestions(sample), 1):
            assert f"[{n}] {audit.names[label]}" in text
        assert f"[6] {used}" in text
        assert "duplicates –" in text  # no evidence is no number
        assert ".50" not in text
        assert "review › NEIGHBOURS" in desk.screen[0]
        given, suggested = audit.names[audit.given[sample]], audit.names[audit.suggestions(sample)[0][0]]
        assert f"{given} → {suggested}" in desk.screen[0]


async def test_embeddings_alone_are_compared_in_lists(tmp_path: Path) -> None:
    async with at_desk(make_audit(tmp_path, images=False), size=NARROW) as desk:
        near = desk.audit.evidence(desk.sample).neighbours
        assert "cosine" in desk.text
        assert "embeddings and no images" not in desk.text
        for each in near[:5]:
            shown = f"{each.similarity:.2f}"[1:]
            assert any(
                desk.audit.sample_name(each.index) in line and shown in line for line in desk.screen
            ), each
        await desk.do("neighbours")
        await _rest(desk)
        assert "embeddings and no images" not in desk.text
        assert "cosine similarity" in desk.text


async def test_the_map_of_pairs_has_axes_and_a_legend(tmp_path: Path) -> None:
    for size in (NARROW, (120, 40)):
        directory = tmp_path / f"{size[0]}"
        directory.mkdir()
        async with at_desk(draw_audit(directory), size=size) as desk:
            await desk.do("pairs")
            await _rest(desk)
            text = desk.app.screen.query_one("#heat").text  # type: ignore[attr-defined]
            lines = text.splitlines()
            assert "columns: class" in lines[0]
            assert "rows: class" in lines[-2]
            largest = desk.audit.pairs()[0].W
            assert lines[-1].startswith("overlap W ")
            assert f"{largest:.2f}"[1:] in lines[-1]
            # columns are named in full, downwards where they are narrow
            columns = [
                "".join(letters).strip()
                for letters in zip(*(line.ljust(60) for line in lines[1:-2]), strict=False)
            ]
            assert any(column.startswith("cat") for column in columns) or " cat" in lines[1]


async def test_captions_of_the_sheet_hold_both_classes(tmp_path: Path) -> None:
    async with at_desk(make_audit(tmp_path, n=240), size=NARROW) as desk:
        await desk.do("sheet")
        await _rest(desk)
        sample = desk.sample
        audit = desk.audit
        given, suggested = audit.names[audit.given[sample]], audit.names[audit.suggestions(sample)[0][0]]
        assert given in desk.screen[5]
        assert f"→ {suggested}" in desk.screen[6]
        assert not desk.screen[7].strip()  # what is below belongs to the next row
