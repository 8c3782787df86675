"""What each backbone costs: processor time an image, JPEG decoding included, in one thread; for docs/backbones.md.

Weights are random, since they do not change the time; images are 500 x 375.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from _common import Report, parser
from labeltui import embed, sources

MODELS = {
    "mobilenetv3_small_100": 224, "tf_efficientnet_lite0": 224, "resnet18": 224, "resnet50": 224, "densenet121": 224,
    "convnext_tiny": 224, "vit_small_patch16_224": 224, "vit_base_patch16_224": 224,
}  # fmt: skip
"""timm names and the side in pixels."""


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--images", type=int, default=256)
    asked = options.parse_args()
    report = Report("backbones", asked)
    n = 16 if asked.quick else asked.images
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        for i in range(n):
            file = Path(scratch) / f"class{i % 2}" / f"{i:05}.jpg"
            file.parent.mkdir(exist_ok=True)
            noise = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
            Image.fromarray(noise).resize((500, 375), Image.Resampling.BICUBIC).save(file, quality=90)
        source = sources.open_source(Path(scratch))
        for model, side in MODELS.items():
            embedder = embed.load_embedder(
                embed.EmbedSpec(model, pretrained=False, workers=0, image_size=side)
            )
            ranges = embed.batch_ranges(n, 8)
            for _ in embed.stream(source, embedder, ranges[:1], 0, threads=1):
                pass  # the first pass prepares
            begun = time.process_time()
            for _ in embed.stream(source, embedder, ranges, 0, threads=1):
                pass
            milliseconds = 1000 * (time.process_time() - begun) / n
            detail = {"dimensions": embedder.dim, "hours_50k_on_8_cores": milliseconds * 50_000 / 3.6e6 / 8}
            report.add(f"{model}, {side} px", milliseconds, "ms", better="lower", detail=detail)
    report.finish()


if __name__ == "__main__":
    main()
