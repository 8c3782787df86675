"""Previews out of large archives: time from a sample's id to its decoded image, and what finding it costs at the start.

One tar, zip, Parquet file and saved Hugging Face data set (Arrow) after the other is written with JPEGs of about
100 kB. Then samples are drawn at random and each is read, hashed and decoded, as the review does: once after the
system's cache of the file was dropped, and once with what that left. ``--gigabytes`` sets the size of each. Processor
time is stated beside, since on a busy machine the slowest of a hundred reads waits for others.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from _common import Report, parser
from labeltui.sources import open_images, open_source

DISTINCT = 64  # pictures
ROWS = 100  # of a batch, and of a row group as Hugging Face's library writes images
TARGET = 30.0  # milliseconds


def pictures() -> list[bytes]:
    """Return JPEG files of about 100 kB."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(DISTINCT):
        small = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        noise = rng.integers(-24, 25, (480, 640, 3))
        smooth = np.asarray(
            Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC), dtype=np.int64
        )
        file = io.BytesIO()
        Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8)).save(file, "jpeg", quality=75)
        made.append(file.getvalue())
    return made


def members(n: int) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of n members."""
    files = pictures()
    for i in range(n):
        yield f"{i % 10}/{i:07}.jpg", files[i * 7 % DISTINCT] + b"%08d" % i  # no two alike


def write_tar(directory: Path, n: int) -> Path:
    with tarfile.open(directory / "x.tar", "w") as archive:
        for name, data in members(n):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return directory / "x.tar"


def write_zip(directory: Path, n: int) -> Path:
    with zipfile.ZipFile(directory / "x.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in members(n):
            archive.writestr(name, data)
    return directory / "x.zip"


def batches(n: int) -> Iterator[object]:
    import pyarrow as pa

    rows: list[dict[str, object]] = []
    for i, (name, data) in enumerate(members(n)):
        rows.append({"image": {"bytes": data, "path": name}, "label": name[0]})
        if len(rows) == ROWS or i == n - 1:
            yield pa.RecordBatch.from_pylist(rows)
            rows = []


def write_parquet(directory: Path, n: int, group: int) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer, source = None, batches(n)
    while some := list(itertools.islice(source, group // ROWS)):
        writer = writer or pq.ParquetWriter(directory / "x.parquet", some[0].schema)
        writer.write_table(pa.Table.from_batches(some), row_group_size=group)
    writer.close()
    return directory / "x.parquet"


def write_saved(directory: Path, n: int) -> Path:
    import pyarrow as pa

    home = directory / "saved"
    home.mkdir()
    (home / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    (home / "dataset_info.json").write_text("{}")
    writer = None
    for batch in batches(n):
        writer = writer or pa.ipc.new_stream(str(home / "data-00000-of-00001.arrow"), batch.schema)
        writer.write_batch(batch)
    writer.close()
    return home


def forget(path: Path) -> None:
    """Drop what the system keeps of a file, or of the files in a directory, in memory."""
    for each in path.iterdir() if path.is_dir() else [path]:
        descriptor = os.open(each, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def measure(write: Callable[[Path, int], Path], n: int, draws: int) -> dict[str, float]:
    """Write one file and read from it; times are milliseconds, but for those in seconds."""
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["XDG_CACHE_HOME"] = f"{scratch}/cache"
        path = write(Path(scratch), n)
        size = sum(each.stat().st_size for each in (path.iterdir() if path.is_dir() else [path]))
        begun = time.perf_counter()
        source = open_source(path)
        opening = time.perf_counter() - begun
        description, root, ids = source.describe(), source.root, source.ids
        rng, found = np.random.default_rng(1), {}
        forget(path)
        images = open_images(description, root)
        begun = time.perf_counter()
        images.image(ids[n // 2], n // 2)
        first = time.perf_counter() - begun
        forget(path)
        for state in ("cold", "warm"):
            taken, worked = [], []
            for i in rng.integers(0, n, draws).tolist():
                begun, busy = time.perf_counter(), time.process_time()
                data = images.read(ids[i], i)
                hashlib.sha256(data).digest()
                images.decode(data)
                taken.append(time.perf_counter() - begun)
                worked.append(time.process_time() - busy)
            found |= {
                f"{state}_p50_ms": 1e3 * float(np.quantile(taken, 0.5)),
                f"{state}_p99_ms": 1e3 * float(np.quantile(taken, 0.99)),
                f"{state}_cpu_p99_ms": 1e3 * float(np.quantile(worked, 0.99)),
            }
    return {
        **found,
        "first_ms": 1e3 * first,
        "gigabytes": size / 1e9,
        "members": n,
        "reads": draws,
        "opening_s": opening,
    }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--gigabytes", type=float, default=2.0, help="size of each file")
    options.add_argument(
        "--row-group", type=int, default=ROWS, help="rows of a row group of Parquet, in hundreds"
    )
    asked = options.parse_args()
    report = Report("sources", asked)
    gigabytes, draws = (0.05, 200) if asked.quick else (asked.gigabytes, 2000)
    n = max(20, int(gigabytes * 1e9 / np.mean([len(each) for each in pictures()])))
    for name, write in (
        ("tar", write_tar),
        ("zip", write_zip),
        (f"parquet in row groups of {asked.row_group:,}", partial(write_parquet, group=asked.row_group)),
        ("saved", write_saved),
    ):
        what = f"preview from {gigabytes:g} GB {name}, p99"
        if not report.wanted(what):
            continue
        if name not in ("tar", "zip"):
            try:
                import pyarrow  # noqa: F401
            except ImportError:
                report.cannot(what, "ms", better="lower", target=TARGET, why="pyarrow is not installed")
                continue
        found = report.cell(what, lambda write=write: measure(write, n, draws), n=n, draws=draws)  # type: ignore[misc]
        report.add(what, found["cold_p99_ms"], "ms", better="lower", target=TARGET, detail=found)
    report.finish()


if __name__ == "__main__":
    main()
