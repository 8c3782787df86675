"""Training dynamics: recorded in the training step, 10 bytes a sample and epoch, one small file an epoch.

While a run trains, ``epochs/00007.npz`` holds what its eighth epoch recorded, for the samples that are watched
in it: with folds, those of the fold before (so each sample is watched in one model that trains on it, as in
`labeltui.head.Dynamics`). At the end they are put together into ``dynamics.h5``::

    log_p, margin, top_p, sum_squares   (E, N) float16     top   (E, N) int16     labels   (N,) int32

with NaN, and class -1, where a sample was not watched. ``epochs`` then goes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from labeltui import paths
from labeltui.head import Dynamics
from labeltui.io.atomic import replacing
from labeltui.io.h5_reader import H5
from labeltui.io.h5_writer import Blocks, write_h5

if TYPE_CHECKING:
    import torch

FIELDS = {
    "log_p": "float16",
    "margin": "float16",
    "top": "int16",
    "top_p": "float16",
    "sum_squares": "float16",
}


class Recorder:
    """Collects the dynamics of one epoch on the training device, without waiting for it.

    Parameters
    ----------
    watched : ndarray of bool, shape (N,)
    device : torch.device
    """

    def __init__(self, watched: npt.NDArray[np.bool_], device: torch.device) -> None:
        import torch

        self.rows = np.flatnonzero(watched)
        # A row for each watched sample, and a last one where all others go.
        place = np.full(len(watched), len(self.rows), dtype=np.int64)
        place[self.rows] = np.arange(len(self.rows))
        self._place = torch.from_numpy(place).to(device)
        self._values = torch.full((4, len(self.rows) + 1), torch.nan, dtype=torch.float16, device=device)
        self._top = torch.full((len(self.rows) + 1,), -1, dtype=torch.int16, device=device)

    def note(self, index: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Record a batch.

        Parameters
        ----------
        index : Tensor of int64, shape (b,)
            Samples.
        logits : Tensor, shape (b, K)
        labels : Tensor of int64, shape (b,)
            Labels used in training.
        """
        import torch

        z = logits.detach().float()
        at = self._place[index]
        log_p = z.log_softmax(dim=1)
        p = log_p.exp()
        own = labels[:, None]
        best, top = z.topk(2, dim=1)
        # The largest other logit: the first, or the second where the label itself is first.
        other = torch.where(top[:, :1] == own, best[:, 1:], best[:, :1])
        self._values[0, at] = log_p.gather(1, own)[:, 0].half()
        self._values[1, at] = (z.gather(1, own) - other)[:, 0].half()
        self._values[2, at] = p.gather(1, top[:, :1])[:, 0].half()
        self._values[3, at] = p.square().sum(dim=1).half()
        self._top[at] = top[:, 0].to(torch.int16)

    def tensors(self) -> dict[str, torch.Tensor]:
        """The state, for a checkpoint within an epoch."""
        return {"values": self._values, "top": self._top}

    def load(self, tensors: dict[str, torch.Tensor]) -> None:
        """Go back to a state."""
        self._values.copy_(tensors["values"])
        self._top.copy_(tensors["top"])

    def finish(self, directory: Path, number: int, name: str = "") -> None:
        """Write the current epoch and start the next.

        Parameters
        ----------
        directory : Path
            Of the run.
        number : int
            Of the epoch, in the file name.
        name : str
            Prefix of the file name.
        """
        import torch

        values = self._values[:, :-1].cpu().numpy()
        arrays = dict(zip(("log_p", "margin", "top_p", "sum_squares"), values, strict=True))
        folder = directory / paths.EPOCHS
        folder.mkdir(exist_ok=True)
        with replacing(folder / f"{name}{number:05}.npz") as temporary, open(temporary, "wb") as file:
            np.savez(file, rows=self.rows.astype(np.int32), top=self._top[:-1].cpu().numpy(), **arrays)
        self._values.fill_(torch.nan)
        self._top.fill_(-1)


def read_epoch(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read one epoch's file: ``rows`` (m,) int32 and the five records (m,)."""
    with np.load(path, allow_pickle=False) as data:
        return {name: data[name] for name in ("rows", *FIELDS)}


def consolidate(
    directory: Path,
    labels: npt.NDArray[np.int32],
    fold: npt.NDArray[np.int8],
    parts: Sequence[Sequence[int]],
    name: str = "",
) -> None:
    """Put the epochs' files together into one, and remove them.

    Parameters
    ----------
    directory : Path
        Of the run.
    labels : ndarray of int32, shape (N,)
        The labels it was recorded with.
    fold : ndarray of int8, shape (N,)
        Fold of each sample; -1 = none.
    parts : sequence of sequence of int
        For each row of the result the numbers of the files (one a model) that it is made of.
    name : str
        Prefix of the files: ``clean-`` for the passes without augmentation.
    """
    n, shape = len(labels), (len(parts), len(labels))

    def rows(field: str, dtype: str) -> Iterator[npt.NDArray[Any]]:
        for files in parts:
            line = np.full(n, -1 if dtype == "int16" else np.nan, dtype=dtype)
            for number in files:
                path = directory / paths.EPOCHS / f"{name}{number:05}.npz"
                if path.exists():  # not where a model stopped early
                    epoch = read_epoch(path)
                    line[epoch["rows"]] = epoch[field]
            yield line[None]

    arrays: dict[str, npt.NDArray[Any] | Blocks] = {
        field: Blocks(shape, np.dtype(dtype), lambda field=field, dtype=dtype: rows(field, dtype))  # type: ignore[misc]
        for field, dtype in FIELDS.items()
    }
    write_h5(directory / f"{name}{paths.DYNAMICS_FILE}", {**arrays, "labels": labels, "fold": fold}, {})


def clear(directory: Path) -> None:
    """Remove the epochs' files, whose content is in dynamics.h5."""
    shutil.rmtree(directory / paths.EPOCHS, ignore_errors=True)


def write_dynamics(directory: Path, dynamics: Dynamics, fold: npt.NDArray[np.int8]) -> None:
    """Write the dynamics of heads, which are recorded in memory, in the format of a run.

    Parameters
    ----------
    directory : Path
        Of the run.
    dynamics : Dynamics
        E epochs of N samples.
    fold : ndarray of int8, shape (N,)
    """
    arrays = {field: getattr(dynamics, field) for field in FIELDS}
    write_h5(directory / paths.DYNAMICS_FILE, {**arrays, "labels": dynamics.labels, "fold": fold}, {})


def read_dynamics(directory: Path) -> Dynamics:
    """Read a finished run's dynamics."""
    with H5(directory / paths.DYNAMICS_FILE) as file:
        return Dynamics(**{field: np.array(file[field]) for field in (*FIELDS, "labels")})
