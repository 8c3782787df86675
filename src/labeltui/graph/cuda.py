"""The CUDA backend: half-precision products find candidates, float64 ranks them, a bound certifies them.

The steps are those of the compiled filter (docs/kernels.md) in torch: rows are centred and stored in float16, products
of a block of rows with all others give upper bounds of the similarities, the `n_ranked` largest are ranked exactly,
and a row is certified when its k-th exact similarity is above the best bound among the rest. So the result has the
same bytes as that of the exact backend; the caller searches uncertified rows again.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from labeltui._fast import knn
from labeltui.errors import Cancelled, UsageError
from labeltui.parallel import Cancel, Progress

if TYPE_CHECKING:
    import torch

_BLOCK = 1 << 28  # values of a block of products, or of the rows gathered for ranking


def available() -> bool:
    """Return whether torch sees a GPU; loads torch only if the system has one."""
    if (
        sys.platform.startswith("linux")
        and not any(Path("/dev").glob("nvidia[0-9]*"))
        and not Path("/dev/dxg").exists()
    ):
        return False
    import torch

    return torch.cuda.is_available()


def filtered(
    rows: knn.Rows,
    indices: npt.NDArray[np.int32],
    similarity: npt.NDArray[np.float32],
    progress: Progress | None,
    cancel: Cancel | None,
    device: torch.device | None = None,
    half: bool = True,
) -> npt.NDArray[np.bool_]:
    """Fill the rows that the bound certifies; return which it does not.

    Parameters
    ----------
    rows : Rows
        With lengths set.
    indices : ndarray of int32, shape (n, k)
    similarity : ndarray of float32, shape (n, k)
        Both are overwritten, for uncertified rows too.
    progress, cancel : callable, optional
    device : torch.device, optional
        By default the first GPU. Changes only the speed.
    half : bool
        Filter with float16 products, otherwise with float32, which certifies more rows.

    Returns
    -------
    ndarray of bool, shape (n,)

    Raises
    ------
    UsageError
        There is no GPU, or its memory is too small.
    Cancelled
    """
    import torch

    if device is None:
        if not torch.cuda.is_available():
            raise UsageError(
                "the cuda backend needs an NVIDIA GPU that torch sees",
                "there is none",
                "use the exact backend",
            )
        device = torch.device("cuda")
    try:
        with torch.inference_mode():
            return _Search(rows, indices.shape[1], device, half).run(indices, similarity, progress, cancel)
    except torch.OutOfMemoryError:
        raise UsageError(
            f"the rows and one block of products must fit the GPU: about {memory(rows.n, rows.d) / 1e9:.1f} GB",
            "its memory ran out",
            "use the exact backend",
        ) from None


def memory(n: int, d: int) -> int:
    """Return the approximate GPU memory of a search, bytes.

    Parameters
    ----------
    n, d : int
        Rows and dimensions.
    """
    return 6 * n * d + 24 * _BLOCK


class _Search:
    """Rows on the device with what bounds their products; see knn_sketch_end in filter.c for the bound."""

    def __init__(self, rows: knn.Rows, k: int, device: torch.device, half: bool) -> None:
        import torch

        self.rows, self.k, self.device = rows, k, device
        self.metric = knn.METRICS[rows.metric]
        self.n_ranked = min(rows.n - 1, 2 * k + 44)
        longest = float(np.sqrt(rows.squared.max()))
        self.scale = 1.0 if self.metric == "cosine" else 2.0 ** -int(np.frexp(longest)[1])
        self.inverse = torch.as_tensor(rows.inverse, device=device)
        self.x = torch.empty((rows.n, rows.d), dtype=_kind(rows.x), device=device)
        step = max(1, _BLOCK // (4 * rows.d))
        for begin in range(0, rows.n, step):
            end = min(begin + step, rows.n)
            part = rows.x[begin:end] if rows.rows is None else rows.x[rows.rows[begin:end]]
            self.x[begin:end] = torch.from_numpy(
                np.array(part)
            )  # a copy: memory-mapped rows cannot be written to
        mean = torch.zeros(rows.d, dtype=torch.float64, device=device)
        for begin in range(0, rows.n, step):
            mean += self._scaled(begin, min(begin + step, rows.n)).sum(0)
        mean = (mean / rows.n).float().double()
        self.stored = torch.empty(
            (rows.n, rows.d), dtype=torch.float16 if half else torch.float32, device=device
        )
        names = ("base", "size", "length", "error")
        stats = {name: torch.empty(rows.n, dtype=torch.float64, device=device) for name in names}
        for begin in range(0, rows.n, step):
            end = min(begin + step, rows.n)
            y = self._scaled(begin, end) - mean
            self.stored[begin:end] = y.to(self.stored.dtype)
            stored = self.stored[begin:end].double()
            squared = (y * y).sum(1)
            # From the rows themselves: where they lie close together far from the origin, their products with the mean
            # are tiny beside its length, which is left out as the offset.
            against = (self._scaled(begin, end) * mean).sum(1) - mean @ mean
            stats["length"][begin:end] = (stored * stored).sum(1)
            stats["error"][begin:end] = ((y - stored) ** 2).sum(1)
            if self.metric == "euclidean":
                stats["base"][begin:end] = -0.5 * squared
                stats["size"][begin:end] = squared
            else:
                stats["base"][begin:end] = against
                # The result is rounded relative to the whole length, the rest relative to what is stored.
                stats["size"][begin:end] = squared + 2 * against.abs() + (mean @ mean) / 16
        q, e = stats["length"], stats["error"]
        ratio = float((e.sum() / q.sum().clamp(min=1e-300)).sqrt().clamp(min=1e-12))
        # Of the product: its rounding to float16, and that of its sums, which tensor cores truncate.
        product = (2.0**-11 if half else 0.0) + (rows.d + 8) * 2.0**-22
        slack = 0.5 * (ratio * q + e / ratio + e) + 0.5 * product * q
        tiny = 2.0**-146 * self.scale * (1.0 if self.metric == "euclidean" else self.scale) + (
            1e-7 if half else 1e-30
        )
        slack = 1.0001 * slack + 2.0**-19 * (stats["size"] + e + q + stats["base"].abs()) + tiny
        self.upper = (stats["base"] + slack).float()
        self.offset = 0.0 if self.metric == "euclidean" else float(mean @ mean)

    def _scaled(self, begin: int, end: int) -> torch.Tensor:
        """Rows as the metric multiplies them, float64."""
        x = self.x[begin:end].double()
        return x * (self.inverse[begin:end, None] if self.metric == "cosine" else self.scale)

    def run(
        self,
        indices: npt.NDArray[np.int32],
        similarity: npt.NDArray[np.float32],
        progress: Progress | None,
        cancel: Cancel | None,
    ) -> npt.NDArray[np.bool_]:
        import torch

        n, d = self.rows.n, self.rows.d
        uncertified = np.ones(n, bool)
        step = max(1, min(_BLOCK // n, _BLOCK // (self.n_ranked * d)))
        reduced = torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        try:
            begin = 0
            while begin < n:
                if cancel is not None and cancel():
                    raise Cancelled("the search was stopped")
                end, found = min(begin + step, n), None
                with suppress(torch.OutOfMemoryError):
                    found = self._block(begin, end)
                if found is None:  # here, where the tensors of the failed block are gone
                    if end - begin == 1:
                        raise torch.OutOfMemoryError("the products of one row with all others do not fit")
                    step = (end - begin) // 2
                    torch.cuda.empty_cache()  # does nothing where CUDA was never used
                    continue
                best, certified = found
                indices[begin:end] = ((1 << 32) - 1 - (best & 0xFFFFFFFF)).to(torch.int32).cpu().numpy()
                similarity[begin:end] = _value(best).cpu().numpy()
                uncertified[begin:end] = ~certified.cpu().numpy()
                if progress is not None:
                    progress(0.95 * end / n)
                begin = end
        finally:
            torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = reduced
        return uncertified

    def _block(self, begin: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys (rows, k) of the block's neighbours, and which rows are certified."""
        import torch

        bound = torch.mm(self.stored[begin:end], self.stored.T).float()
        bound += self.upper
        own = torch.arange(begin, end, device=self.device)
        bound[own - begin, own] = -torch.inf
        top, candidates = bound.topk(self.n_ranked, dim=1)
        del bound
        keys = _key(self._exact(begin, end, candidates), candidates)
        best = keys.sort(dim=1, descending=True).values[:, : self.k].contiguous()
        last = _value(best[:, -1]).double()
        euclidean = self.metric == "euclidean"
        bar = -0.5 * last * last * self.scale**2 if euclidean else last * self.scale**2 - self.offset
        certified = ((top[:, -1] + self.upper[begin:end]).double() < bar) & torch.isfinite(last)
        return best, certified | torch.tensor(self.n_ranked == self.rows.n - 1, device=self.device)

    def _exact(self, begin: int, end: int, candidates: torch.Tensor) -> torch.Tensor:
        """Similarities in the order of exact_body.h: eight lanes, each adding element after element in float64."""
        import torch

        count, m = candidates.shape
        x, y = self.x[begin:end], self.x[candidates.flatten()].view(count, m, -1)
        lanes = torch.zeros((count, m, 8), dtype=torch.float64, device=self.device)
        for t in range(0, self.rows.d, 8):
            a, b = x[:, None, t : t + 8].double(), y[:, :, t : t + 8].double()
            # Two kernels, so that nothing is fused: products of float32 are exact, squares of differences are not.
            term = (a - b).square_() if self.metric == "euclidean" else a * b
            lanes[:, :, : term.shape[2]] += term
        halves = lanes[:, :, :4] + lanes[:, :, 4:]
        quarters = halves[:, :, :2] + halves[:, :, 2:]
        total = quarters[:, :, 0] + quarters[:, :, 1]
        if self.metric == "cosine":
            total *= self.inverse[begin:end, None] * self.inverse[candidates]
        elif self.metric == "euclidean":
            total = -total.sqrt()
        return total.float() + 0.0


def _kind(x: npt.NDArray[np.generic]) -> torch.dtype:
    import torch

    return torch.float16 if x.dtype == np.float16 else torch.float32


def _key(value: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """One int64 that orders by value, then by lower index (knn_key, but signed)."""
    import torch

    bits = value.view(torch.int32)
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
    return (ordered << 32) + ((1 << 32) - 1 - index)


def _value(key: torch.Tensor) -> torch.Tensor:
    import torch

    ordered = (key >> 32).to(torch.int32)
    return torch.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered).view(torch.float32)
