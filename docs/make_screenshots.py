"""Make the images of the screens in docs/images: ``python docs/make_screenshots.py``.

They show the audit of ``labeltui demo``, which is made in a temporary directory.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

IMAGES = Path(__file__).parent / "screenshots"
LOOKS: dict[str, tuple[list[str], str, tuple[int, int]]] = {
    "review": (["down", "1", "1", "space", "d"], "labeltui-dark", (120, 40)),
    "review-light": (["down", "1", "1", "space", "d"], "labeltui-light", (120, 40)),
    "review-small": (["1", "space"], "labeltui-dark", (80, 24)),
    "find-class": (["slash"], "labeltui-dark", (120, 40)),
    "help": (["question_mark"], "labeltui-dark", (120, 40)),
    "neighbours": (["n"], "labeltui-dark", (120, 40)),
    "contact-sheet": (["g", "v", "v", "right", "v"], "labeltui-dark", (80, 24)),
    "bulk": (["v", "v", "v", "v", "b"], "labeltui-dark", (120, 40)),
    "pairs": (["p", "down"], "labeltui-dark", (120, 40)),
    "conflicts": (["c"], "labeltui-dark", (80, 24)),
    "checks": (["m", "1", "1", "1", "1", "1", "space", "1"], "labeltui-dark", (120, 40)),
}
"""Keys pressed, theme and size of each image."""


async def take(audit_path: Path) -> None:
    """Open the audit once an image, press its keys and save what the screen shows."""
    from labeltui.audit import Audit
    from labeltui.tui.app import LabeltuiApp

    IMAGES.mkdir(exist_ok=True)
    for name, (keys, theme, size) in LOOKS.items():
        # What the program remembers (theme, place in the queue) of one image is not for the next.
        os.environ["XDG_STATE_HOME"] = str(audit_path.parent / "state" / name)
        with Audit.open(audit_path, reviewer="demo") as audit:
            while audit.undo() is not None:
                pass
            app = LabeltuiApp(audit, theme=theme)
            async with app.run_test(size=size) as pilot:
                await pilot.pause(0.3)
                await pilot.press(*keys)
                await pilot.pause(1.0)
                svg = app.export_screenshot(title=f"labeltui: {name.replace('-', ' ')}", simplify=True)
                (IMAGES / f"{name}.svg").write_text(svg)
                print(IMAGES / f"{name}.svg")


def main() -> None:
    """Make the demo's audit, then all images."""
    from labeltui import demo

    with tempfile.TemporaryDirectory() as directory:
        for name in ("CONFIG", "CACHE"):
            os.environ[f"XDG_{name}_HOME"] = f"{directory}/{name.lower()}"
        os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", LANG="C.UTF-8")
        os.environ.pop("NO_COLOR", None)
        asyncio.run(take(demo.demo(Path(directory) / "demo").audit))


if __name__ == "__main__":
    main()
