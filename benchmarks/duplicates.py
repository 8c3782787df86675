"""Why near-duplicates are sought the way they are: how the defaults follow, and what they find.

The rule that sets the defaults uses no label. Images that are distinct by construction (tiles of the two photographs
and the handwritten digits that come with scikit-learn, noise with the spectrum of photographs, and such noise over one
common image) give pairs that are no duplicates; those made of some of them (encoded again, resized, shifted, mirrored,
brighter, flatter, grey) give pairs that are.

* RATIO is the smallest whole number at which no set has more than 1 % of its distinct images joined with another,
  whatever the cosine.
* MIN_COSINE is the largest multiple of .05 that loses, of the duplicates which RATIO joins, at most 5 % of any kind in
  any set; mirrored ones aside, which the `pixels` embedder does not know.

Then made data again, by the defaults: duplicates are mixed in; a good rule joins each with its original and no two
originals. Made images are embedded by the `pixels` embedder.

Real data: --images DIR --truth FILE.csv --embeddings FILE.npy (columns path, given, clean and perhaps split; rows in
the same order). Its own near-duplicates are counted: of two images joined wrongly the clean labels would often differ,
as they do among neighbours at large. With --model and --checkpoint, which made those embeddings, duplicates are mixed
in too.

--docs FILE writes the tables into a page, between the lines <!-- rule --> and <!-- end of rule --> and the same for
`duplicates` and, with real data, `natural`.
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
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.datasets import load_digits, load_sample_images

import labeltui
from _common import Report, markdown, parser
from labeltui import duplicates, graph
from labeltui.audit.duplicates import DuplicateGroups
from labeltui.embed import Embedder, EmbedSpec, load_embedder

OURS = (Path(labeltui.__file__).parent / "duplicates.py",)
TOLERATED = 0.01  # share of distinct images joined
LOST = 0.05  # fraction of duplicates with a cosine below MIN_COSINE
RATIOS = range(1, 21)
PIXELS = Namespace(model="pixels", checkpoint=None)
COSINES = (0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
Images = list[Image.Image]


def encoded(quality: int) -> Callable[[Image.Image], Image.Image]:
    def copy(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")

    return copy


def scaled(factor: float) -> Callable[[Image.Image], Image.Image]:
    def copy(image: Image.Image) -> Image.Image:
        size = (round(image.width * factor), round(image.height * factor))
        return image.resize(size, Image.Resampling.BICUBIC)

    return copy


def shifted(image: Image.Image) -> Image.Image:
    """Down and to the left by one thirty-second of its side, at least one pixel."""
    by = max(1, image.width // 32)
    moved = np.pad(np.asarray(image), ((by, 0), (0, by), (0, 0)), mode="edge")
    return Image.fromarray(moved[: image.height, by:])


VARIANTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "encoded q90": encoded(90),
    "encoded q50": encoded(50),
    "3/4 the size": scaled(0.75),
    "1.5 times the size": scaled(1.5),
    "shifted 1/32": shifted,
    "mirrored": ImageOps.mirror,
    "brighter by 1/5": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "flatter by 1/5": lambda image: ImageEnhance.Contrast(image).enhance(0.8),
    "grey": lambda image: image.convert("L").convert("RGB"),
}


def photographs(side: int = 40) -> Images:
    """All tiles of the two photographs that show something."""
    tiles = []
    for photo in load_sample_images().images:
        for top in range(0, photo.shape[0] - side + 1, side):
            for left in range(0, photo.shape[1] - side + 1, side):
                tile = photo[top : top + side, left : left + side]
                if np.abs(np.diff(tile.astype(float), axis=0)).mean() > 6:
                    tiles.append(Image.fromarray(tile))
    return tiles


def digits(n: int) -> Images:
    """Handwritten digits, enlarged to 32 x 32."""
    grey = (load_digits().images[:n] * 15.9).astype(np.uint8)
    return [Image.fromarray(d).resize((32, 32), Image.Resampling.BICUBIC).convert("RGB") for d in grey]


def noise(n: int, side: int = 40, seed: int = 0, common: float = 0.0) -> Images:
    """Noise whose spectrum falls like that of photographs, mostly grey; `common` of its variance is one image's."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
    frequency[0, 0] = 1 / side

    def draw() -> NDArray[np.float64]:
        white = np.fft.rfft2(rng.normal(size=(4, side, side)))
        own = np.moveaxis(np.fft.irfft2(white / frequency, s=(side, side)), 0, -1)
        mixed = own[..., :1] + 0.5 * own[..., 1:]
        return mixed / mixed.std()

    shared = draw()
    drawn = [np.sqrt(common) * shared + np.sqrt(1 - common) * draw() for _ in range(n)]
    return [Image.fromarray(np.clip(128 + 45 * image, 0, 255).astype(np.uint8)) for image in drawn]


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


def embed(images: Images, options: Namespace) -> NDArray[np.float32]:
    """(N, d) embeddings; the last unit is filled up with the last image."""
    model = embedder(options.model, options.checkpoint)
    assert model.transform is not None
    rows = []
    for start in range(0, len(images), model.unit):
        part = images[start : start + model.unit]
        pixels = np.stack([model.transform(p) for p in part])
        filled = np.concatenate([pixels, np.repeat(pixels[-1:], model.unit - len(part), axis=0)])
        rows.append(model.encode(filled)[: len(part)])
    return np.concatenate(rows)


def margins(originals: Images, X: NDArray[np.float32]) -> dict[str, Any]:
    """What the rule needs to know of one set of distinct images.

    By how much closer than usual duplicates must be: the fraction of distinct images joined. For each kind of
    duplicate that is found among the ten nearest: how much closer than usual it is, and its cosine.
    """
    n = len(originals)
    found = graph.build(X, k=min(duplicates.COLUMNS, n - 1))
    near = duplicates.near_duplicates(
        found.indices,
        found.similarity,
        image=originals.__getitem__,
        threshold=-1.0,
        ratio=1.0,
        max_pairs=found.indices.size,
    )
    joined = {}
    for closer in RATIOS:
        close = near.distance <= near.background / closer
        links = (np.ones(int(close.sum())), (near.first[close], near.second[close]))
        joined[closer] = 1 - connected_components(coo_array(links, shape=(n, n)), directed=False)[0] / n
    kinds = {}
    chosen = np.arange(0, n, 4)
    own = np.stack([duplicates.thumbnail(originals[i]) for i in chosen])
    for kind, change in VARIANTS.items():
        changed = [change(originals[i]) for i in chosen]
        both = np.concatenate([X, embed(changed, PIXELS)])
        found = graph.build(both, k=duplicates.COLUMNS)
        place = np.arange(n, n + len(chosen))
        listed = (found.indices[chosen] == place[:, None]).any(axis=1)
        listed |= (found.indices[place] == chosen[:, None]).any(axis=1)
        unit = both / np.linalg.norm(both, axis=1, keepdims=True)
        distance = duplicates.image_distance(own, np.stack([duplicates.thumbnail(c) for c in changed]))
        kinds[kind] = {
            "closer": (near.background / np.maximum(distance[listed], 1e-6)).round(3).tolist(),
            "cosine": (unit[place] * unit[chosen]).sum(axis=1)[listed].round(4).tolist(),
        }
    return {"samples": n, "background": near.background, "joined": joined, "kinds": kinds}


def derive(report: Report, options: Namespace) -> None:
    """MIN_COSINE and RATIO by the rule above, beside those in force."""
    n = 200 if options.quick else 1000
    sets = {
        "photographs": photographs(),
        "small tiles": photographs(20),
        "digits": digits(400 if options.quick else 1797),
        "noise": noise(n),
        "noise, half of it common": noise(n, common=0.5),
        "noise, most of it common": noise(n, common=0.9),
    }
    cells = {
        name: report.cell(
            f"derive from {name}",
            lambda p=images: margins(p, embed(p, PIXELS)),
            *OURS,
            n=len(images),
        )
        for name, images in sets.items()
    }
    joined = {name: {int(c): share for c, share in cell["joined"].items()} for name, cell in cells.items()}
    closer = min(c for c in RATIOS if all(shares[c] <= TOLERATED for shares in joined.values()))
    kept = []
    for cell in cells.values():
        for kind, found in cell["kinds"].items():
            cosines = np.array(found["cosine"])[np.array(found["closer"]) >= closer]
            if kind != "mirrored" and len(cosines):
                kept.append(float(np.quantile(cosines, LOST)))
    if options.docs is not None:
        write(options.docs, "rule", shares(joined, closer))
    report.add(
        f"derive: RATIO, at most {TOLERATED:.0%} of distinct images joined",
        float(closer),
        "times",
        better="lower",
        target=duplicates.RATIO,
        detail={
            name: {"background": cell["background"], "joined": joined[name]} for name, cell in cells.items()
        },
    )
    report.add(
        f"derive: MIN_COSINE, at most {LOST:.0%} of duplicates lost",
        float(np.floor(min(kept) / 0.05 + 1e-9) * 0.05),
        "cosine",
        target=duplicates.MIN_COSINE,
        detail={"least": min(kept)},
    )
    for name, cell in cells.items():
        report.add(
            f"derive: distinct images joined, {name}",
            100 * joined[name][closer],
            "%",
            better="lower",
            detail={"samples": cell["samples"]},
        )


def shares(joined: dict[str, dict[int, float]], closer: int) -> str:
    """Distinct images joined at the number chosen and at the one before, as Markdown."""
    columns = "distinct images joined, %", f"1/{closer} of what is usual", f"1/{closer - 1}"
    rows = ([name, f"{100 * of[closer]:.3g}", f"{100 * of[closer - 1]:.3g}"] for name, of in joined.items())
    return "\n".join(markdown(columns, rows))


def join(X: NDArray[np.float32], image: Callable[[int], Image.Image] | None) -> tuple[Any, graph.Graph]:
    found = graph.build(X, k=min(duplicates.COLUMNS, len(X) - 1))
    return duplicates.near_duplicates(found.indices, found.similarity, image=image), found


def injected(
    originals: Images, X: NDArray[np.float32], chosen: NDArray[np.int64], options: Namespace
) -> dict[str, Any]:
    """For each kind of copy: the share joined with its original, with images and by cosine alone.

    Also which distinct originals that joined, and the cosines of duplicates with their originals.
    """
    n = len(originals)
    result: dict[str, Any] = {"samples": n, "duplicates": len(chosen), "kinds": {}}
    for kind, change in VARIANTS.items():
        images = originals + [change(originals[i]) for i in chosen]
        both = np.concatenate([X, embed(images[n:], options)])
        looked, found = join(both, images.__getitem__)
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
    """Near-duplicates that the data set has of itself, within each split and across."""
    looked, found = join(X, lambda i: Image.open(folder / rows[i]["path"]).convert("RGB"))
    labels = {
        name: np.unique([row[name] for row in rows], return_inverse=True)[1] for name in ("given", "clean")
    }
    split = np.array([row.get("split", "all") for row in rows])
    ends = np.sort(np.stack([split[looked.first], split[looked.second]]), axis=0)
    differ = labels["clean"][looked.first] != labels["clean"][looked.second]
    pairs = {}
    for one, other in sorted(set(zip(*ends.tolist(), strict=True))):
        here = (ends[0] == one) & (ends[1] == other)
        pairs[one if one == other else f"{one} against {other}"] = {
            "joined": int(here.sum()),
            "clean_labels_differ": int(differ[here].sum()),
        }
    groups = DuplicateGroups(looked.groups).groups()
    apart = labels["clean"][found.indices] != labels["clean"][:, None]
    by_cosine = {}
    for limit in COSINES:
        near = found.similarity >= limit
        other_class = float(apart[near].mean()) if near.any() else 0.0
        by_cosine[str(limit)] = {
            "samples": int(near.any(axis=1).sum()),
            "neighbours_of_another_class": other_class,
        }
    alone = duplicates.near_duplicates(found.indices, found.similarity)
    return {
        "images": len(rows),
        "rule": looked.attrs(),
        "pairs": pairs,
        "groups": len(groups),
        "samples": sum(map(len, groups)),
        "largest": max(map(len, groups), default=0),
        "across_splits": len(
            DuplicateGroups(looked.groups).disagreeing(np.unique(split, return_inverse=True)[1])
        ),
        "groups_whose_clean_labels_differ": len(DuplicateGroups(looked.groups).disagreeing(labels["clean"])),
        "neighbours_looked_at_of_another_class": float(
            apart[found.similarity >= looked.min_compared_cosine].mean()
        ),
        "groups_whose_given_labels_differ": len(DuplicateGroups(looked.groups).disagreeing(labels["given"])),
        "groups_by_cosine_alone": len(DuplicateGroups(alone.groups).groups()),
        "by_cosine": by_cosine,
    }


def show(report: Report, name: str, cell: dict[str, Any]) -> None:
    """One row for each kind of copy, one for distinct images, two for what the cosine alone would do."""
    for kind, figures in cell["kinds"].items():
        report.add(f"{name}: duplicates joined, {kind}", 100 * figures["joined"], "%", detail=figures)
    distinct = {
        key: cell[key] for key in ("samples", "limit", "background", "distinct_joined_by_cosine_alone")
    }
    report.add(
        f"{name}: distinct images joined",
        100 * cell["distinct_joined"] / cell["samples"],
        "%",
        better="lower",
        detail=distinct,
    )
    key = str(duplicates.THRESHOLD)
    alone = np.mean([figures["by_cosine_alone"][key] for figures in cell["kinds"].values()])
    report.add(f"{name}: duplicates joined by cosine >= {key} alone, all kinds", 100 * float(alone), "%")
    report.add(
        f"{name}: distinct images with a neighbour at cosine >= {key}",
        100 * cell["distinct_joined_by_cosine_alone"][key] / cell["samples"],
        "%",
        better="lower",
    )


def table(cells: dict[str, dict[str, Any]]) -> str:
    """What duplicates become, as Markdown: a line a kind, a column a set."""
    key = str(duplicates.THRESHOLD)

    def line(what: str, share: Callable[[dict[str, Any]], float]) -> list[str]:
        return [what, *(f"{100 * share(cell):.3g}" for cell in cells.values())]

    def alone(cell: dict[str, Any]) -> float:
        return float(np.mean([figures["by_cosine_alone"][key] for figures in cell["kinds"].values()]))

    return "\n".join(
        markdown(
            ("joined with its original, %", *cells),
            [
                *(line(kind, lambda cell, kind=kind: cell["kinds"][kind]["joined"]) for kind in VARIANTS),
                line("distinct originals joined", lambda cell: cell["distinct_joined"] / cell["samples"]),
                line(f"by cosine >= {key} alone: all kinds together", alone),
                line(
                    "... distinct originals with such a neighbour",
                    lambda cell: cell["distinct_joined_by_cosine_alone"][key] / cell["samples"],
                ),
            ],
        )
    )


def confirmed(name: str, cell: dict[str, Any]) -> str:
    """What near-duplicates were found in real data, as Markdown."""
    lines = [
        (
            f"pairs joined, {place}: whose clean labels differ",
            counted["joined"],
            counted["clean_labels_differ"],
        )
        for place, counted in cell["pairs"].items()
    ]
    lines += [
        ("groups: whose clean labels differ", cell["groups"], cell["groups_whose_clean_labels_differ"]),
        ("groups: whose given labels differ", cell["groups"], cell["groups_whose_given_labels_differ"]),
        ("groups: that span the splits", cell["groups"], cell["across_splits"]),
    ]
    key = str(duplicates.THRESHOLD)
    rows = [[what, f"{found:,}", f"{part:,}"] for what, found, part in lines]
    rows.append([f"groups by cosine >= {key} alone", f"{cell['groups_by_cosine_alone']:,}", ""])
    other = 100 * cell["neighbours_looked_at_of_another_class"]
    rows.append(["neighbours looked at of another class, %", "", f"{other:.3g}"])
    return "\n".join(markdown((f"{name}, {cell['images']:,} images", "found", "of these"), rows))


def write(page: Path, mark: str, text: str) -> None:
    """Replace what stands between the two marks of a page."""
    begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    whole = page.read_text(encoding="utf-8")
    before, _, rest = whole.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{page} has no lines {begin} and {end}")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--model", help="what embedded the real images, and embeds duplicates of them")
    arguments.add_argument("--checkpoint", type=Path, help="weights of --model")
    arguments.add_argument("--images", type=Path, help="directory of real images")
    arguments.add_argument("--truth", type=Path, help="CSV with path, given, clean")
    arguments.add_argument("--embeddings", type=Path, help="(N, d) .npy of those images")
    arguments.add_argument("--name", default="real", help="of the real images, in the table")
    arguments.add_argument("--docs", type=Path, help="page to write the table into")
    options = arguments.parse_args()
    report = Report("duplicates", options)
    cells: dict[str, dict[str, Any]] = {}
    if report.wanted("derive"):
        derive(report, options)
    made = {"photographs": photographs(), "digits": digits(400 if options.quick else 1797)}
    for name, images in made.items():
        if report.wanted(name):
            step = 4
            chosen = np.arange(0, len(images), step)
            cell = report.cell(
                name,
                lambda p=images, c=chosen: injected(p, embed(p, PIXELS), c, PIXELS),
                *OURS,
                n=len(images),
            )
            show(report, name, cell)
            cells[name] = cell
    real = [options.images, options.truth, options.embeddings]
    if all(real) and report.wanted("real"):
        X = np.load(options.embeddings)
        with options.truth.open(newline="", encoding="utf-8") as file:
            rows = list(csv_files.DictReader(file))
        cell = report.cell(
            "real", lambda: natural(X, rows, options.images), *OURS, options.truth, options.embeddings
        )
        if options.docs is not None:
            write(options.docs, "natural", confirmed(options.name, cell))
        report.add("real: groups of near-duplicates", cell["groups"], "groups", detail=cell)
        wrong = cell["groups_whose_clean_labels_differ"]
        report.add("real: of these, clean labels differ", wrong, "groups", better="lower")
        for place, counted in cell["pairs"].items():
            report.add(
                f"real: pairs joined whose clean labels differ, {place}",
                100 * counted["clean_labels_differ"] / counted["joined"],
                "%",
                better="lower",
                detail=counted,
            )
        report.add("real: groups across splits", cell["across_splits"], "groups")
        report.add("real: of these, given labels differ", cell["groups_whose_given_labels_differ"], "groups")
        key = str(duplicates.THRESHOLD)
        report.add(f"real: groups by cosine >= {key} alone", cell["groups_by_cosine_alone"], "groups")
        if options.model is not None:
            chosen = np.sort(np.random.default_rng(0).choice(len(rows), 800, replace=False))
            images = [Image.open(options.images / rows[i]["path"]).convert("RGB") for i in chosen]
            cell = report.cell(
                "real, duplicates",
                lambda: injected(images, X[chosen], np.arange(0, 800, 2), options),
                *OURS,
                options.truth,
                options.embeddings,
                model=options.model,
                checkpoint=options.checkpoint,
            )
            show(report, f"real ({options.model})", cell)
            cells = {options.name: cell} | cells
    elif not options.quick:
        report.cannot("real: groups of near-duplicates", "give --images, --truth and --embeddings", "groups")
    if options.docs is not None:
        write(options.docs, "duplicates", table(cells))
    report.finish()


if __name__ == "__main__":
    main()
