"""The GPU paths: the same bytes or features as on the CPU, and how fast.

    python benchmarks/gpu.py [--rows N --dim D] [--images N] [--model NAME] [--minutes M] [--device cpu]

One script for a machine that is lent for a few minutes: it needs neither a network nor data, only what torch,
torchvision, timm and a C compiler bring, and four small packages that are copied along::

    pip install --target benchmarks/.cache/packages cython setuptools platformdirs threadpoolctl

It builds the package where that was not done, and takes at most `--minutes` (7), building included: a measurement is
only begun while there is time for it. Where torch sees no CUDA device every figure
is null, and says so. ``--device cpu --quick`` rehearses every step on the CPU, without targets.

* kNN: the CUDA backend against the exact one on `--check` rows, byte for byte; then seconds for `--rows` x `--dim`.
* Precision: features in 16 bits against float32, as a fraction of the largest feature.
* Extraction: images per second of the engine on decoded pixels, and of the whole stream from JPEG files, against the
  bare model in the same precision on tensors that lie on the device. Where the stream is slower than .9 of the bare
  model and the CPU cores are busy, decoding is the bound; the detail gives both.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

BEGIN = time.monotonic()
HERE = Path(__file__).parent
PACKAGES = HERE / ".cache" / "packages"


def prepare() -> None:
    """Build the package if it is not installed, and name what is missing."""
    sys.path.append(str(PACKAGES))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(PACKAGES)]))
    needed = ["numpy", "PIL", "torch", "torchvision", "timm", "platformdirs", "threadpoolctl"]
    built = importlib.util.find_spec("labeltui") is not None
    missing = [
        name for name in [*needed, *([] if built else ["Cython"])] if importlib.util.find_spec(name) is None
    ]
    if missing:
        sys.exit(f"missing: {', '.join(missing)}; see the head of this script")
    if built:
        return
    install = ["install", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-e", str(HERE.parent)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True)
    sys.path.insert(0, str(HERE.parent / "src"))
    print(f"  built in {time.monotonic() - BEGIN:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    prepare()
    from _gpu import main

    main(__doc__, BEGIN)
