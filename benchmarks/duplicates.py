"""Why near copies are sought the way they are: what ordinary copies look like, and distinct neighbours.

Made data: tiles of the two photographs and the handwritten digits that come with scikit-learn. Copies of some of them
(encoded again, resized, shifted, mirrored, brighter, flatter, grey) are mixed in; a good rule joins each with its
original and no two originals. Both are embedded by the `pixels` embedder, or by --model with --checkpoint.

Real data: --images DIR --truth FILE.csv --embeddings FILE.npy (columns path, given, clean; rows in the same order).
Its own near copies are counted: of two pictures joined wrongly the clean labels would often differ, as they do among
neighbours at large. With --checkpoint copies are mixed in as well.
"""

from __future__ import annotations

import csv as csv_files
import io
from argparse import Namespace
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_digits, load_sample_images

import labeltui
from _common import Report, parser
from labeltui import duplicates, graph
from labeltui.embed import Embedder, EmbedSpec, load_embedder

OURS = (Path(labeltui.__file__).parent / "duplicates.py",)
COSINES = (0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
Pictures = list[Image.Image]


def encoded(quality: int) -> Callable[[Image.Image], Image.Image]:
    def copy(picture: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")

    return copy


def scaled(factor: float) -> Callable[[Image.Image], Image.Image]:
    def copy(picture: Image.Image) -> Image.Image:
        size = (round(picture.width * factor), round(picture.height * factor))
        return picture.resize(size, Image.Resampling.BICUBIC)

    return copy


def shifted(picture: Image.Image) -> Image.Image:
    """Down and to the left by one thirty-second of its side, at least one pixel."""
    by = max(1, picture.width // 32)
    moved = np.pad(np.asarray(picture), ((by, 0), (0, by), (0, 0)), mode="edge")
    return Image.fromarray(moved[: picture.height, by:])


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "encoded q90": encoded(90),
    "encoded q50": encoded(50),
    "3/4 the size": scaled(0.75),
    "1.5 times the size": scaled(1.5),
    "shifted 1/32": shifted,
    "mirrored": ImageOps.mirror,
    "brighter by 1/5": lambda picture: ImageEnhance.Brightness(picture).enhance(1.2),
    "flatter by 1/5": lambda picture: ImageEnhance.Contrast(picture).enhance(0.8),
    "grey": lambda picture: picture.convert("L").convert("RGB"),
}


def photographs(side: int = 40) -> Pictures:
    """All tiles of the two photographs that show something."""
    tiles = []
    for photo in load_sample_images().images:
        for top in range(0, photo.shape[0] - side + 1, side):
            for left in range(0, photo.shape[1] - side + 1, side):
                tile = photo[top : top + side, left : left + side]
                if np.abs(np.diff(tile.astype(float), axis=0)).mean() > 6:
                    tiles.append(Image.fromarray(tile))
    return tiles


def digits(n: int) -> Pictures:
    """Handwritten digits, enlarged to 32 x 32."""
    grey = (load_digits().images[:n] * 15.9).astype(np.uint8)
    return [Image.fromarray(d).resize((32, 32), Image.Resampling.BICUBIC).convert("RGB") for d in grey]


@cache
def embedder(model: str, checkpoint: Path | None) -> Embedder:
    if model == "pixels":
        return load_embedder(EmbedSpec("pixels"))
    arguments: dict[str, object] = {"pad_type": "same", "bn_eps": 1e-3} if "mobilenetv2" in model else {}
    spec = EmbedSpec(
        model,
        pretrained=False,
        checkpoint=checkpoint,
        model_args=arguments,
        image_size=128,
        mean=(0.5,),
        std=(0.5,),
    )
    return load_embedder(spec)


def embed(pictures: Pictures, options: Namespace) -> NDArray[np.float32]:
    """(N, d) embeddings; the last unit is filled up with the last picture."""
    model = embedder(options.model, options.checkpoint)
    assert model.transform is not None
    rows = []
    for start in range(0, len(pictures), model.unit):
        part = pictures[start : start + model.unit]
        pixels = np.stack([model.transform(p) for p in part])
        filled = np.concatenate([pixels, np.repeat(pixels[-1:], model.unit - len(part), axis=0)])
        rows.append(model.encode(filled)[: len(part)])
    return np.concatenate(rows)


def join(X: NDArray[np.float32], picture: Callable[[int], Image.Image] | None) -> tuple[Any, graph.Graph]:
    found = graph.build(X, k=min(50, len(X) - 1), metric="cosine")
    return duplicates.near_duplicates(found.indices, found.similarity, picture=picture), found


def planted(
    originals: Pictures, X: NDArray[np.float32], chosen: NDArray[np.int64], options: Namespace
) -> dict[str, Any]:
    """For each kind of copy: the share joined with its original, with pictures and by cosine alone.

    Also which distinct originals that joined, and the cosines of copies with their originals.
    """
    n = len(originals)
    result: dict[str, Any] = {"samples": n, "copies": len(chosen), "kinds": {}}
    for kind, copy in COPIES.items():
        pictures = originals + [copy(originals[i]) for i in chosen]
        both = np.concatenate([X, embed(pictures[n:], options)])
        looked, found = join(both, pictures.__getitem__)
        unit = both / np.linalg.norm(both, axis=1, keepdims=True)
        cosine = (unit[n:] * unit[chosen]).sum(axis=1)
        result["kinds"][kind] = {
            "joined": float((looked.groups[n:] == looked.groups[chosen]).mean()),
            "cosine_quantiles_05_50_95": np.quantile(cosine, [0.05, 0.5, 0.95]).round(4).tolist(),
            "by_cosine_alone": {str(limit): float((cosine >= limit).mean()) for limit in COSINES},
        }
    own, found = join(X, originals.__getitem__)
    result["limit"] = own.limit
    result["background"] = own.background
    result["distinct_joined"] = n - len(np.unique(own.groups))
    pairs = found.similarity[:, : duplicates.COLUMNS]
    result["distinct_joined_by_cosine_alone"] = {
        str(limit): int((pairs.max(axis=1) >= limit).sum()) for limit in COSINES
    }
    return result


def natural(X: NDArray[np.float32], rows: list[dict[str, str]], folder: Path) -> dict[str, Any]:
    """Near copies that the data set has of itself."""
    looked, found = join(X, lambda i: Image.open(folder / rows[i]["path"]).convert("RGB"))
    labels = {
        name: np.unique([row[name] for row in rows], return_inverse=True)[1] for name in ("given", "clean")
    }
    groups = duplicates.members(looked.groups)
    similarity = found.similarity[:, : duplicates.COLUMNS]
    differ = labels["clean"][found.indices[:, : duplicates.COLUMNS]] != labels["clean"][:, None]
    by_cosine = {
        str(limit): {
            "samples": int((similarity >= limit).any(axis=1).sum()),
            "neighbours_of_another_class": float(differ[similarity >= limit].mean())
            if (similarity >= limit).any()
            else 0.0,
        }
        for limit in COSINES
    }
    alone = duplicates.near_duplicates(found.indices, found.similarity)
    return {
        "rule": looked.attrs(),
        "groups": len(groups),
        "samples": sum(map(len, groups)),
        "largest": max(map(len, groups), default=0),
        "groups_whose_clean_labels_differ": len(duplicates.conflicts(looked.groups, labels["clean"])),
        "neighbours_looked_at_of_another_class": float(differ[similarity >= looked.looked_down_to].mean()),
        "groups_whose_given_labels_differ": len(duplicates.conflicts(looked.groups, labels["given"])),
        "groups_by_cosine_alone": len(duplicates.members(alone.groups)),
        "by_cosine": by_cosine,
    }


def show(report: Report, name: str, cell: dict[str, Any]) -> None:
    """One row for each kind of copy, one for distinct pictures, two for what the cosine alone would do."""
    for kind, figures in cell["kinds"].items():
        report.add(f"{name}: copies joined, {kind}", 100 * figures["joined"], "%", detail=figures)
    distinct = {
        key: cell[key] for key in ("samples", "limit", "background", "distinct_joined_by_cosine_alone")
    }
    report.add(
        f"{name}: distinct pictures joined",
        100 * cell["distinct_joined"] / cell["samples"],
        "%",
        better="lower",
        detail=distinct,
    )
    key = str(duplicates.THRESHOLD)
    alone = np.mean([figures["by_cosine_alone"][key] for figures in cell["kinds"].values()])
    report.add(f"{name}: copies joined by cosine >= {key} alone, all kinds", 100 * float(alone), "%")
    report.add(
        f"{name}: distinct pictures with a neighbour at cosine >= {key}",
        100 * cell["distinct_joined_by_cosine_alone"][key] / cell["samples"],
        "%",
        better="lower",
    )


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--model", default="pixels", help="embeds made pictures and copies")
    arguments.add_argument("--checkpoint", type=Path, help="weights of --model")
    arguments.add_argument("--images", type=Path, help="directory of real pictures")
    arguments.add_argument("--truth", type=Path, help="CSV with path, given, clean")
    arguments.add_argument("--embeddings", type=Path, help="(N, d) .npy of those pictures")
    options = arguments.parse_args()
    report = Report("duplicates", options)
    made = {"photographs": photographs(), "digits": digits(400 if options.quick else 1797)}
    for name, pictures in made.items():
        if report.wanted(name):
            step = 4
            chosen = np.arange(0, len(pictures), step)
            cell = report.cell(
                f"{name}, {options.model}",
                lambda p=pictures, c=chosen: planted(p, embed(p, options), c, options),
                *OURS,
                n=len(pictures),
                checkpoint=options.checkpoint,
            )
            show(report, f"{name} ({options.model})", cell)
    real = [options.images, options.truth, options.embeddings]
    if all(real) and report.wanted("real"):
        X = np.load(options.embeddings)
        with options.truth.open(newline="", encoding="utf-8") as file:
            rows = list(csv_files.DictReader(file))
        cell = report.cell(
            "real", lambda: natural(X, rows, options.images), *OURS, options.truth, options.embeddings
        )
        report.add("real: groups of near copies", cell["groups"], "groups", detail=cell)
        wrong = cell["groups_whose_clean_labels_differ"]
        report.add("real: of these, clean labels differ", wrong, "groups", better="lower")
        report.add("real: of these, given labels differ", cell["groups_whose_given_labels_differ"], "groups")
        key = str(duplicates.THRESHOLD)
        report.add(f"real: groups by cosine >= {key} alone", cell["groups_by_cosine_alone"], "groups")
        if options.checkpoint is not None:
            chosen = np.sort(np.random.default_rng(0).choice(len(rows), 800, replace=False))
            pictures = [Image.open(options.images / rows[i]["path"]).convert("RGB") for i in chosen]
            cell = report.cell(
                "real, copies",
                lambda: planted(pictures, X[chosen], np.arange(0, 800, 2), options),
                *OURS,
                options.truth,
                options.embeddings,
            )
            show(report, f"real ({options.model})", cell)
    elif not options.quick:
        report.cannot("real: groups of near copies", "give --images, --truth and --embeddings", "groups")
    report.finish()


if __name__ == "__main__":
    main()
