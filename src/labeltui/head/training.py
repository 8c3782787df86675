"""Train the heads of all folds, each on one thread."""

from __future__ import annotations

import math
import queue
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from labeltui import parallel
from labeltui.errors import Cancelled, InputError
from labeltui.head.components import BLOCK, components, finite_rows, project
from labeltui.head.folds import same_length
from labeltui.head.optimiser import AdamW, one_cycle
from labeltui.head.plan import HeadState, Plan
from labeltui.head.types import Dynamics, Epoch, Floats, HeadResult, HeadSpec, Labels, Mask, Rows
from labeltui.head.unfinished import UnfinishedHeads, flatten, restore
from labeltui.unfinished import Keeper

if TYPE_CHECKING:
    import torch

_HELD_OUT_SAMPLE = 2048


def out_of_fold(
    X: npt.NDArray[np.floating],
    labels: npt.ArrayLike,
    fold: npt.NDArray[np.integer],
    n_classes: int,
    *,
    spec: HeadSpec | None = None,
    seed: int = 0,
    threads: int | None = None,
    device: str = "auto",
    progress: Callable[[Epoch], None] | None = None,
    cancel: Callable[[], bool] | None = None,
    weights: npt.ArrayLike | None = None,
    transition: npt.ArrayLike | None = None,
    dynamics: bool = False,
    out: Floats | None = None,
    keeper: Keeper | None = None,
) -> HeadResult:
    """Train one head (or `spec.members`) for each fold on the others and predict it.

    Parameters
    ----------
    X : ndarray of float16, float32 or float64, shape (N, d)
        Embeddings; may be memory-mapped. Rows in a fold must be finite.
    labels : array-like of int, shape (N,)
        Labels to learn, 0..K-1; -1 only where fold is -1.
    fold : ndarray of int, shape (N,)
        From `folds`.
    n_classes : int
    spec : HeadSpec, optional
    seed : int
        The same seed and input give the same result on the same kind of machine, on any number of threads.
    threads : int, optional
        Heads trained at once on a CPU.
    device : str
        "auto" takes CUDA when torch has it; "cpu"; "cuda", "cuda:1".
    progress : callable, optional
        Called in the calling thread with an `Epoch` after each epoch of each head.
    cancel : callable, optional
        Called at least once an epoch; True raises `Cancelled`.
    weights : array-like of float, shape (N,), optional
        Sample weights, not negative; 0 leaves a sample out of training.
    transition : array-like, shape (K, K), optional
        T_ty = P(label y | correct label t), rows sum to 1. The head then predicts correct labels: the loss compares
        its softmax times T with the label (forward correction, Patrini et al., CVPR 2017).
    dynamics : bool
        Record training dynamics, of each member.
    out : ndarray of float32, shape (N, K), optional
        Where to write the probabilities, for example a memory-mapped file.
    keeper : Keeper, optional
        Place for heads that are not finished; a call with the same arguments goes on from there.

    Returns
    -------
    HeadResult

    Raises
    ------
    InputError
        Shapes differ, labels are out of range, or weights are negative or not finite.
    Cancelled
    """
    spec = spec or HeadSpec()
    given, weight = _checked(X, labels, fold, n_classes, weights)
    n_folds = int(fold.max()) + 1 if len(fold) else 0
    p = np.empty((len(given), n_classes), dtype=np.float32) if out is None else out
    p[:] = 1.0 / max(n_classes, 1)
    seen = np.zeros((n_folds, n_classes), dtype=bool)
    for k in range(n_folds):
        train = (fold >= 0) & (fold != k) & (weight > 0)
        seen[k, np.unique(given[train])] = True
    finite = finite_rows(X)
    if (bad := (fold >= 0) & ~finite).any():
        raise InputError("embeddings of samples in a fold must be finite", f"row {int(bad.argmax())} is not")
    if n_folds < 2 or n_classes < 2:
        return HeadResult(p, seen, [])

    import torch

    n_threads = parallel.count_threads(threads)
    chosen = device_named(device)
    kind = _precision(spec.precision, chosen)
    workers = n_threads if chosen.type == "cpu" else 1
    before = torch.get_num_threads()
    with parallel.limit_blas(1):
        basis = components(X, finite & (fold >= 0), spec.components, n_threads)
        z = project(X, finite, basis, kind, n_threads).to(chosen)
        plan = Plan(spec, z, finite, torch.from_numpy(given).long(), weight, fold, seen, seed, kind, dynamics)
        if transition is not None:
            plan.transition = torch.from_numpy(np.asarray(transition, dtype=np.float32)).to(chosen)
        unfinished = None if keeper is None else UnfinishedHeads(keeper, plan)
        if unfinished is not None:
            unfinished.load()
        try:
            history = _run(plan, workers, p, progress, cancel, unfinished)
        finally:
            torch.set_num_threads(before)
    attrs: dict[str, str | int | float] = {
        "hidden": spec.hidden,
        "dropout": spec.dropout,
        "label_smoothing": spec.label_smoothing,
        "epochs": plan.epochs,
        "batch": plan.batch,
        "learning_rate": plan.rate,
        "weight_decay": spec.weight_decay,
        "components": basis[1].shape[1],
        "members": spec.members,
        "folds": n_folds,
        "seed": seed,
        "precision": str(kind).removeprefix("torch."),
        "device": chosen.type,
    }
    return HeadResult(p, seen, history, tuple(plan.records), attrs)


def _run(
    plan: Plan,
    workers: int,
    p: Floats,
    progress: Callable[[Epoch], None] | None,
    cancel: Callable[[], bool] | None,
    unfinished: UnfinishedHeads | None,
) -> list[Epoch]:
    """Train the heads on `workers` threads; this thread reports progress, keeps them and handles cancellation."""
    reports: queue.SimpleQueue[Epoch | BaseException | None] = queue.SimpleQueue()
    stop = [False]
    tasks = list(plan.states)
    history = [epoch for state in plan.states.values() if state is not None for epoch in state.history]
    before, total = len(history), len(tasks) * plan.epochs - len(history)
    held = np.zeros(p.shape, dtype=np.float32) if plan.spec.members > 1 else None
    loose = np.flatnonzero(plan.fold < 0)
    loose = loose[plan.finite[loose]]
    loose_p = np.zeros((len(tasks), len(loose), plan.n_classes), dtype=np.float32) if len(loose) else None

    def work(number: int, training: Iterator[list[torch.Tensor] | None]) -> None:
        """Train one epoch of a head and requeue it, or predict once it is trained."""
        try:
            model = None if stop[0] else next(training)
            if model is None and not stop[0]:
                pool.submit(work, number, training)
                return
            if model is not None:
                rows = np.flatnonzero(plan.fold == tasks[number][0])
                _predict(plan, model, rows, p if held is None else held, add=held is not None)
                if loose_p is not None:
                    _predict(plan, model, loose, loose_p[number], places=np.arange(len(loose)))
            reports.put(None)
        except BaseException as error:
            reports.put(error)

    with ThreadPoolExecutor(max_workers=min(workers, len(tasks))) as pool:
        try:
            for start in range(0, len(tasks), plan.n_folds):
                batch = range(start, min(start + plan.n_folds, len(tasks)))
                # Epochs take turns, so that two threads finish five heads at about the same time.
                for number in batch:
                    pool.submit(
                        work, number, _train(plan, *tasks[number], reports, stop, unfinished is not None)
                    )
                left = len(batch)
                while left:
                    report = reports.get()
                    if report is None:
                        left -= 1
                        continue
                    if isinstance(report, BaseException):
                        raise report
                    report = replace(report, done=len(history) - before + 1, total=total)
                    history.append(report)
                    cancelled = cancel is not None and cancel()
                    if unfinished is not None:
                        unfinished.save(now=cancelled)
                    if cancelled:
                        raise Cancelled("the head was cancelled", f"after {report.done} of {total} epochs")
                    if progress is not None:
                        progress(report)
        except BaseException:
            stop[0] = True
            raise
    if held is not None:
        inside = plan.fold >= 0
        p[inside] = held[inside] / plan.spec.members
    if loose_p is not None:
        p[loose] = loose_p.mean(axis=0)
    history.sort(key=lambda report: (report.fold, report.member, report.epoch))
    return history


def _train(
    plan: Plan,
    k: int,
    member: int,
    reports: queue.SimpleQueue[Epoch | BaseException | None],
    stop: list[bool],
    keep: bool,
) -> Iterator[list[torch.Tensor] | None]:
    """Train the head of one fold: yields None after each epoch and when stopped, and finally the trained head.

    It begins after the epochs of its state in `plan.states`, which holds the last one where heads are to be kept.
    """
    import torch
    from torch.nn.functional import cross_entropy, linear

    spec, z, labels = plan.spec, plan.z, plan.labels
    rng = np.random.default_rng([plan.seed, k, member])
    rows = np.flatnonzero((plan.fold >= 0) & (plan.fold != k) & (plan.weight > 0))
    held = np.flatnonzero(plan.fold == k)[:_HELD_OUT_SAMPLE]
    parameters = _initial(plan, rng)
    w1, b1, w2, b2 = parameters
    optimiser = AdamW([w1, w2], [b1, b2], spec.weight_decay)
    steps = max(1, len(rows) // plan.batch)
    threshold = round(spec.dropout * 256)
    scale = 256.0 / (256 - threshold)
    threshold_backward = torch.ops.aten.threshold_backward
    hidden_mask = torch.from_numpy(np.where(plan.seen[k], 0.0, -np.inf).astype(np.float32)).to(z.device)
    blind = not plan.seen[k].all()
    columns = torch.from_numpy(np.flatnonzero(plan.seen[k])).to(z.device)
    column_of = torch.from_numpy(np.cumsum(plan.seen[k]) - 1).to(z.device)  # (K,)
    record = plan.records[member] if plan.records else None
    watched = np.zeros(len(plan.fold), dtype=bool)
    watched[plan.watched(k)] = True
    tensors = [*parameters, *optimiser.state]
    history: list[Epoch] = []
    if (state := plan.states[k, member]) is not None:
        rng.bit_generator.state = state.rng
        restore(tensors, state.values)
        history = state.history
    for epoch in range(len(history), plan.epochs):
        if z.device.type == "cpu":
            torch.set_num_threads(1)  # per thread, which may differ from that of the previous epoch
        loss_sum = 0.0
        for step, chosen in enumerate(np.array_split(rng.permutation(rows), steps)):
            if stop[0]:
                yield None
                return
            index = torch.from_numpy(chosen).to(z.device)
            y = labels[index]
            x = z.index_select(0, index)  # (b, m)
            h = linear(x, w1.to(plan.kind), b1.to(plan.kind))  # (b, hidden)
            if threshold:
                # Dropout before the nonlinearity, which is equivalent, so that both work in place.
                coins = np.frombuffer(rng.bytes(h.numel()), dtype=np.uint8).reshape(h.shape)
                # bfloat16 times bfloat16 is several times faster than bfloat16 times bool.
                h = h.mul_(torch.from_numpy((coins >= threshold).view(np.int8)).to(z.device, plan.kind))
            h = h.relu_()
            scaled = (w2 * scale).to(plan.kind)
            output = (linear(h, scaled).float() + b2).requires_grad_()  # (b, K)
            logits = output + hidden_mask.clamp(min=-30.0) if blind else output
            given_logits = logits
            if plan.transition is not None:
                # Forward correction: P(given label) = P(correct label) T.
                given_logits = torch.log(torch.softmax(logits, dim=1) @ plan.transition + 1e-9)
            # Label smoothing spreads over the classes with samples here: a term for another class would be large
            # under any finite mask and keep raising its logit.
            class_logits, target = (given_logits[:, columns], column_of[y]) if blind else (given_logits, y)
            loss = cross_entropy(class_logits, target, label_smoothing=spec.label_smoothing, reduction="none")
            if plan.weighted:
                loss = loss * torch.from_numpy(plan.weight[chosen]).to(z.device)
            loss = loss.mean()
            loss.backward()  # type: ignore[no-untyped-call]
            # By hand below the output, where autograd takes nearly twice the time.
            assert output.grad is not None
            downwards = output.grad.to(plan.kind)
            into_hidden = threshold_backward(
                downwards @ scaled, h, 0
            )  # no gradient where h was cut or dropped
            w2.grad = (downwards.T @ h).float() * scale
            b2.grad = output.grad.sum(dim=0)
            w1.grad = (into_hidden.T @ x).float()
            b1.grad = into_hidden.sum(dim=0).float()
            optimiser.step(plan.rate * one_cycle((epoch * steps + step) / (plan.epochs * steps)))
            loss_sum += float(loss.detach())
            if record is not None:
                noted = logits.detach()
                if plan.transition is not None:
                    noted = posterior_logits(noted, plan.transition, y)
                _note(record, epoch, chosen, watched[chosen], noted, y)
        held_loss, held_accuracy = _held_out(plan, [*parameters, hidden_mask.clamp(min=-30.0)], held)
        report = Epoch(0, 0, k, member, epoch, plan.epochs, loss_sum / steps, held_loss, held_accuracy)
        if keep:
            history = [*history, report]
            plan.states[k, member] = HeadState(rng.bit_generator.state, flatten(tensors), history)
        reports.put(report)
        yield None
    yield [*parameters, hidden_mask]


def _initial(plan: Plan, rng: np.random.Generator) -> list[torch.Tensor]:
    """He's initialisation for the hidden layer, zeros for the output: all classes start equal."""
    import torch

    m, hidden = plan.z.shape[1], plan.spec.hidden
    w1 = rng.standard_normal((hidden, m), dtype=np.float32) * np.float32(math.sqrt(2.0 / m))
    w2 = np.zeros((plan.n_classes, hidden), dtype=np.float32)
    values = [w1, np.zeros(hidden, dtype=np.float32), w2, np.zeros(plan.n_classes, dtype=np.float32)]
    return [torch.from_numpy(value).to(plan.z.device) for value in values]


def _logits(plan: Plan, parameters: list[torch.Tensor], index: torch.Tensor) -> torch.Tensor:
    from torch.nn.functional import linear

    w1, b1, w2, b2 = parameters[:4]
    h = linear(plan.z[index], w1.to(plan.kind), b1.to(plan.kind)).relu()
    logits = linear(h, w2.to(plan.kind)).float() + b2
    return logits if len(parameters) == 4 else logits + parameters[4]


def _predict(
    plan: Plan,
    model: list[torch.Tensor],
    rows: Rows,
    out: Floats,
    *,
    add: bool = False,
    places: Rows | None = None,
) -> None:
    import torch

    places = rows if places is None else places
    with torch.no_grad():
        for start in range(0, len(rows), BLOCK):
            index = torch.from_numpy(rows[start : start + BLOCK]).to(plan.z.device)
            p = torch.softmax(_logits(plan, model, index), dim=1).cpu().numpy()
            at = places[start : start + BLOCK]
            out[at] = out[at] + p if add else p


def _held_out(plan: Plan, model: list[torch.Tensor], rows: Rows) -> tuple[float, float]:
    """Loss and accuracy on the samples `rows`; the model's mask is finite, and so is the loss."""
    import torch
    from torch.nn.functional import cross_entropy

    if not len(rows):
        return math.nan, math.nan
    with torch.no_grad():
        index = torch.from_numpy(rows).to(plan.z.device)
        logits = _logits(plan, model, index)
        y = plan.labels[index]
        return float(cross_entropy(logits, y)), float((logits.argmax(dim=1) == y).float().mean())


def posterior_logits(logits: torch.Tensor, transition: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return logits of P(correct label t | x, given label y) ~ p_t T_ty, by Bayes' rule.

    Parameters
    ----------
    logits : Tensor of float32, shape (b, K)
        Of the correct labels: p is their softmax.
    transition : Tensor of float32, shape (K, K)
        T_ty = P(label y | correct label t).
    y : Tensor of int64, shape (b,)
        Given labels.

    Returns
    -------
    Tensor of float32, shape (b, K)
    """
    return logits + (transition.T[y] + 1e-9).log()


def _note(
    record: Dynamics,
    epoch: int,
    rows: Rows,
    watched: Mask,
    logits: torch.Tensor,
    y: torch.Tensor,
) -> None:
    """Write one batch of training dynamics."""
    if not watched.any():
        return
    z = logits.cpu().numpy()[watched]
    own = y.cpu().numpy()[watched]
    at = rows[watched]
    each = np.arange(len(z))
    z = z - z.max(axis=1, keepdims=True)
    e = np.exp(z)
    p = e / e.sum(axis=1, keepdims=True)
    record.log_p[epoch, at] = z[each, own] - np.log(e.sum(axis=1))
    record.top[epoch, at] = p.argmax(axis=1)
    record.top_p[epoch, at] = p.max(axis=1)
    record.sum_squares[epoch, at] = (p * p).sum(axis=1)
    other = z.copy()
    other[each, own] = -np.inf
    record.margin[epoch, at] = z[each, own] - other.max(axis=1)


def _checked(
    X: npt.NDArray[np.floating],
    labels: npt.ArrayLike,
    fold: npt.NDArray[np.integer],
    n_classes: int,
    weights: npt.ArrayLike | None,
) -> tuple[Labels, Floats]:
    given = np.asarray(labels).astype(np.int32)
    n = len(given)
    if X.ndim != 2 or len(X) != n or fold.shape != (n,):
        raise InputError(
            "embeddings and folds must have one row for each label",
            f"{X.shape} and {fold.shape} for {n} labels",
        )
    if n and (given.max() >= n_classes or given[fold >= 0].min(initial=0) < 0):
        raise InputError(f"labels of samples in a fold must be in 0..{n_classes - 1}", "got others")
    weight = np.ones(n, dtype=np.float32)
    if weights is not None:
        weight = same_length(np.asarray(weights, dtype=np.float32), n, "weights")
        if not (np.isfinite(weight).all() and (weight >= 0).all()):
            raise InputError("sample weights must be finite and not negative", "got others")
        mean = float(weight[fold >= 0].mean(dtype=np.float64)) if (fold >= 0).any() else 0.0
        weight = weight / np.float32(mean) if mean > 0 else weight
    return given, weight


def device_named(name: str) -> torch.device:
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def _precision(name: str, device: torch.device) -> torch.dtype:
    import torch

    if name not in ("auto", "float32", "bfloat16"):
        raise InputError("precision must be auto, float32 or bfloat16", f"got {name!r}")
    if name == "auto":
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported()
        else:
            # Without hardware support bfloat16 is emulated, slower than float32. torch has no public test.
            tests = (
                getattr(torch.cpu, f"_is_{flag}_supported", None) for flag in ("amx_tile", "avx512_bf16")
            )
            fast = any(test is not None and test() for test in tests)
        name = "bfloat16" if fast else "float32"
    return torch.bfloat16 if name == "bfloat16" else torch.float32
