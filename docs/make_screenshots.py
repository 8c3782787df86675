"""Make the images of the screens in docs/screenshots: ``python docs/make_screenshots.py [NAME ...]``.

They show the audit of ``labeltui demo``, and one of pieces of two photographs with 8 % of the labels wrong on purpose;
both are made in a temporary directory. The photographs come with scikit-learn (CC BY 2.0: china.jpg by danielbuechele,
flower.jpg by vultilion).
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

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
    "checks": (["m", *["space"] * 9, "d", "space"], "labeltui-dark", (120, 40)),
}
"""Keys pressed, theme and size of each image of the demo."""
PHOTOGRAPHS: dict[str, tuple[list[str], str, tuple[int, int]]] = {
    "photographs": (["down", "1"], "labeltui-dark", (120, 40)),
    "photographs-small": (["down", "down"], "labeltui-dark", (80, 24)),
    "photographs-neighbours": (["n"], "labeltui-light", (120, 40)),
    "photographs-sheet": (["g"], "labeltui-dark", (100, 32)),
}
REGIONS = {
    "sky": (0, [(340, 0, 640, 130), (0, 0, 90, 130)]),
    "pagoda": (0, [(100, 70, 310, 340)]),
    "trees": (0, [(340, 300, 560, 427), (575, 150, 640, 427), (10, 340, 220, 427)]),
    "water": (0, [(360, 222, 540, 292)]),
    "petals": (1, [(175, 105, 435, 345)]),
    "leaves": (1, [(0, 40, 160, 340), (450, 40, 640, 420)]),
}
"""Where in which photograph a class is seen: left, top, right, bottom in pixels."""
PIECE, STEP, PIECES, WRONG = 48, 12, 90, 0.08


def cut(place: Path) -> None:
    """Write pieces of the photographs, one directory a class."""
    rng = np.random.default_rng(0)
    images = load_sample_images().images
    for name, (which, boxes) in REGIONS.items():
        spots = [
            (x, y)
            for left, top, right, bottom in boxes
            for x in range(left, right - PIECE + 1, STEP)
            for y in range(top, bottom - PIECE + 1, STEP)
        ]
        for x, y in rng.permutation(spots)[:PIECES].tolist():
            others = [other for other in REGIONS if other != name]
            label = str(rng.choice(others)) if rng.random() < WRONG else name
            (place / label).mkdir(parents=True, exist_ok=True)
            piece = Image.fromarray(images[which][y : y + PIECE, x : x + PIECE])
            piece.save(place / label / f"{which}-{x:03}-{y:03}.png")


async def take(audit_path: Path, looks: dict[str, tuple[list[str], str, tuple[int, int]]]) -> None:
    """Open the audit once an image, press its keys and save what the screen shows."""
    from labeltui.audit import Audit
    from labeltui.tui.app import LabeltuiApp

    IMAGES.mkdir(exist_ok=True)
    for name, (keys, theme, size) in looks.items():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
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
    """Make both audits, then all images."""
    from labeltui import demo, scan

    with tempfile.TemporaryDirectory() as directory:
        for name in ("CONFIG", "CACHE"):
            os.environ[f"XDG_{name}_HOME"] = f"{directory}/{name.lower()}"
        os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", LANG="C.UTF-8")
        os.environ.pop("NO_COLOR", None)
        asyncio.run(take(demo.demo(Path(directory) / "demo").audit, LOOKS))
        cut(Path(directory) / "photographs")
        path = Path(directory) / "photographs.audit"
        scan(Path(directory) / "photographs", path, model="pixels").close()
        asyncio.run(take(path, PHOTOGRAPHS))


if __name__ == "__main__":
    main()
