"""A scan on several processes or machines, by Ray.

::

    images --Ray Data: a pool of actors, each with the model--> numbered shards --> the checkpoint of the scan
    embeddings --Ray Core: one task a part of the tile grid--> candidates, merged and ranked by the scan

What comes back does not depend on order, place or retries: a shard is a block of samples and names its rows, and the
graph is proven from whatever candidates there are (`labeltui.graph.parts`). So a scan has the same bytes as on one
machine. Shards are files beside the scan's own checkpoint, on a disk that all machines share; those that are there
are not made again. Decoded pixels never leave their actor.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from labeltui import embed, parallel
from labeltui._fast import knn
from labeltui.embed.devices import Elsewhere
from labeltui.errors import Cancelled, LabeltuiError, UsageError
from labeltui.graph.parts import Found, Part, search_part
from labeltui.io.atomic import replacing
from labeltui.io.names import Names, pack_names
from labeltui.sources import Images, Source
from labeltui.text import safe

RETRIES = 3  # of a task whose process or machine dies; Ray Data starts its actors again by itself
TOGETHER = 16  # blocks in one call of an actor, which starts its decoding processes once
WAIT = 0.3  # seconds between two looks at whether to stop


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster that this process is connected to; made by `connect`.

    Attributes
    ----------
    size : int
        Workers.
    cores : int
        Of each worker.
    """

    size: int
    cores: int

    def search(
        self, rows: knn.Rows, thresholds: npt.NDArray[np.float32], parts: Sequence[Part]
    ) -> Iterator[Found | None]:
        """Search parts of the tile grid, one in a task; see `labeltui.graph.parts.Crew`.

        Parameters
        ----------
        rows : Rows
        thresholds : (slots,) float32
        parts : sequence of Part

        Raises
        ------
        LabeltuiError
            A task failed more often than it is tried again.
        """
        import ray

        # Put once each: every machine keeps one copy, which its processes map.
        shared = [
            ray.put(each) for each in (np.asarray(rows.x), rows.rows, rows.metric, rows.squared, thresholds)
        ]
        task = ray.remote(max_retries=RETRIES, num_cpus=self.cores)(search_part)
        waiting = [task.remote(*shared, part, self.cores) for part in parts]
        try:
            while waiting:
                ready, waiting = ray.wait(waiting, timeout=WAIT)
                yield ray.get(ready[0]) if ready else None
        except ray.exceptions.RayError as error:
            raise _failed("search its part of the graph", error) from None
        finally:
            for each in waiting:
                ray.cancel(each, force=True)

    def blocks(
        self,
        source: Source,
        embedder: embed.Embedder,
        spec: embed.EmbedSpec,
        waiting: Sequence[tuple[int, int]],
        shards: Path,
        cancel: Callable[[], bool],
    ) -> Iterator[embed.Block]:
        """Embed blocks of a source in a pool of actors.

        Parameters
        ----------
        source : Source
            Of images that all machines can read.
        embedder : Embedder
            As the actors make it from `spec`.
        spec : EmbedSpec
        waiting : sequence of (int, int)
            Blocks to embed.
        shards : Path
            Directory on a disk that all machines share. Shards that are there are taken as they are.
        cancel : callable
            Asked between blocks.

        Yields
        ------
        Block
            In any order.

        Raises
        ------
        Cancelled
        LabeltuiError
            An actor failed.
        """
        import ray

        shards.mkdir(mode=0o700, parents=True, exist_ok=True)
        missing = []
        for start, stop in waiting:
            found = read_shard(shards, start, stop, embedder.dim)
            if found is None:
                missing.append((start, stop))
            else:
                yield found
        groups = [missing[first : first + TOGETHER] for first in range(0, len(missing), TOGETHER)]
        if groups:
            spec = replace(spec, device=spec.devices[0], batch_size=embedder.batch_size)
            names = ray.put(pack_names("names", source.ids))
            arguments = (source.images(), names, spec, groups, shards, self.cores)
            ray.data.DataContext.get_current().enable_progress_bars = False
            done = ray.data.from_items(
                [{"row": row} for row in range(len(groups))], override_num_blocks=len(groups)
            ).map_batches(
                _EmbedGroups,
                fn_constructor_args=arguments,
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=min(self.size, len(groups))),
                num_cpus=self.cores,
                num_gpus=1 if spec.device.startswith("cuda") else None,
            )
            try:
                for item in done.iter_rows():
                    for start, stop in groups[item["row"]]:
                        if cancel():
                            raise Cancelled("stopped while images were embedded")
                        found = read_shard(shards, start, stop, embedder.dim)
                        if found is None:
                            raise LabeltuiError(
                                "all machines must write to one disk",
                                f"the shard of rows {start:,} to {stop:,} is not in {safe(str(shards))}",
                                "choose -o on a disk that they share",
                            )
                        yield found
            except ray.exceptions.RayError as error:
                raise _failed("embed its images", error) from None
        shutil.rmtree(shards, ignore_errors=True)


@contextlib.contextmanager
def connect(address: str | None, cores: int | None, threads: int | None) -> Iterator[Cluster]:
    """Connect to a Ray cluster, or start one on this machine for as long as it is used.

    No usage statistics are sent, and no dashboard is started.

    Parameters
    ----------
    address : str, optional
        Of a running cluster, ``auto`` for the one that this machine is part of; None starts one.
    cores : int, optional
        Of a worker; by default all of the smallest machine.
    threads : int, optional
        Cores of a cluster that is started here, see `labeltui.parallel.count_threads`.

    Yields
    ------
    Cluster

    Raises
    ------
    UsageError
        Ray is not installed, there is no such cluster, or no machine has so many cores.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError(
            "--engine ray needs Ray, 2.51 or newer", "it is not installed", "pip install 'labeltui[cluster]'"
        )
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # read at the import
    import ray
    import ray.data

    started: dict[str, Any] = {"num_cpus": parallel.count_threads(threads), "include_dashboard": False}
    try:
        ray.init(
            address=address or "local",
            logging_level="error",
            log_to_driver=False,
            **({} if address else started),
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(
            "there must be a Ray cluster at --address",
            safe(str(error), 300),
            "ray start --head, or leave it out",
        ) from None
    try:
        cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        able = [each for each in cpus if each]
        cores = min(able, default=0) if cores is None else cores
        size = sum(each // cores for each in able) if cores else 0
        if not size:
            raise UsageError(
                "a worker's cores must fit on a machine of the cluster",
                f"got {cores}; the machines have {', '.join(map(str, cpus))}",
            )
        yield Cluster(size, cores)
    finally:
        ray.shutdown()


def _failed(what: str, error: Exception) -> LabeltuiError:
    cause = getattr(error, "cause", None)
    if isinstance(cause, LabeltuiError):
        return cause
    lines = [line for line in str(cause or error).splitlines() if line.strip()]
    return LabeltuiError(
        f"a worker of the cluster must {what}",
        safe(lines[-1] if lines else type(error).__name__, 300),
        "the same command goes on with what is finished",
    )


class _EmbedGroups:
    """The actor: the model, and the images that it reads itself."""

    def __init__(
        self,
        images: Images,
        names: Any,
        spec: embed.EmbedSpec,
        groups: Sequence[Sequence[tuple[int, int]]],
        shards: Path,
        cores: int,
    ) -> None:
        import ray

        packed = ray.get(names)
        self.source: Any = Elsewhere(Names(packed["names"], packed["names_offsets"]), images)
        self.embedder = embed.load_embedder(spec)
        self.spec, self.groups, self.shards, self.cores = spec, groups, shards, cores

    def __call__(self, batch: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        for row in batch["row"].tolist():
            ranges = [
                (start, stop)
                for start, stop in self.groups[row]  # tried again after some were written
                if read_shard(self.shards, start, stop, self.embedder.dim) is None
            ]
            for block in embed.stream(
                self.source, self.embedder, ranges, self.spec.workers, threads=self.cores
            ):
                write_shard(self.shards, block)
        return {"row": batch["row"]}


def write_shard(directory: Path, block: embed.Block) -> None:
    """Write a finished block as a file of its own, complete or not at all.

    Parameters
    ----------
    directory : Path
    block : Block
    """
    faults = np.frombuffer(json.dumps(block.faults).encode(), np.uint8)
    with replacing(_shard(directory, block.start)) as hidden, open(hidden, "wb") as file:
        np.savez(
            file,
            features=block.features,
            sha256=block.sha256,
            pixels=block.pixels,
            status=block.status,
            faults=faults,
        )


def read_shard(directory: Path, start: int, stop: int, dim: int) -> embed.Block | None:
    """Return a finished block, None where there is no whole one.

    Parameters
    ----------
    directory : Path
    start, stop, dim : int
    """
    n = stop - start
    expected = {
        "features": (np.float32, (n, dim)),
        "sha256": (np.uint8, (n, 32)),
        "pixels": (np.uint8, (n, 32)),
        "status": (np.uint8, (n,)),
    }
    try:
        with np.load(_shard(directory, start), allow_pickle=False) as file:
            arrays = {name: file[name] for name in expected}
            faults = [(int(row), str(reason)) for row, reason in json.loads(file["faults"].tobytes())]
    # A damaged archive raises BadZipFile, EOFError, zlib.error, ...; whatever it is, the block is made again.
    except Exception:
        return None
    if any((arrays[name].dtype, arrays[name].shape) != each for name, each in expected.items()):
        return None
    return embed.Block(start, stop, **arrays, faults=faults)


def _shard(directory: Path, start: int) -> Path:
    return directory / f"{start:010}.npz"
