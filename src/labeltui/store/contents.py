"""What the datasets of an audit and of its generations hold: their shapes, types, and the range of their values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np

from labeltui.errors import DamagedAudit
from labeltui.io.h5_reader import H5
from labeltui.io.h5_writer import BLOCK, Array
from labeltui.text import safe


@dataclass(frozen=True)
class Rule:
    """What one dataset must be.

    Attributes
    ----------
    kind : str
        Of its dtype, as `numpy.dtype.kind` names it.
    axes : tuple of str
        What each axis counts: N samples, K classes, S splits (``N+1`` and so on for offsets), or nothing in particular.
    low : float or None
        Least value. Values of a float dataset are finite as well.
    high : str
        Upper bound: an index is below N, K or S, any other value is at most the number given.
    used : bool
        Whether the values are used as indices or probabilities as soon as an audit is open; others are only checked
        where everything is (they are read where they are used, or checked there).
    """

    kind: str
    axes: tuple[str, ...]
    low: float | None = None
    high: str = ""
    used: bool = False


_NAMES = Rule("u", ("",))

RULES: Mapping[str, Rule] = {
    "samples/id": _NAMES,
    "samples/id_offsets": Rule("i", ("N+1",), 0),
    "samples/split": Rule("i", ("N",), -1, "S", used=True),
    "samples/sha256": Rule("u", ("N", "")),
    "samples/pixels": Rule("u", ("N", "")),
    "samples/status": Rule("u", ("N",), 0, "3", used=True),
    "labels/given": Rule("i", ("N",), -1, "K", used=True),
    "classes/id": _NAMES,
    "classes/id_offsets": Rule("i", ("K+1",), 0),
    "classes/name": _NAMES,
    "classes/name_offsets": Rule("i", ("K+1",), 0),
    "splits/name": _NAMES,
    "splits/name_offsets": Rule("i", ("S+1",), 0),
    "embeddings/*": Rule("f", ("N", "")),
    "graph/*/indices": Rule("i", ("N", ""), -1, "N"),
    "graph/*/similarity": Rule("f", ("N", "")),
    "graph/*/rev_indptr": Rule("i", ("N+1",), 0),
    "graph/*/rev_indices": Rule("i", ("",), 0, "N"),
    "groups/duplicate": Rule("i", ("N",), 0, "N", used=True),
    "pred_probs": Rule("f", ("N", "K"), 0, "1"),
    "csg/T": Rule("i", ("K", "K"), 0),
    "csg/S": Rule("f", ("K", "K"), 0),
    "csg/W": Rule("f", ("K", "K"), 0),
    "csg/overlap": Rule("f", ("K",)),
    "csg/self_similarity": Rule("f", ("K",)),
    "csg/spectral_contribution": Rule("f", ("K",)),
    "csg/present": Rule("u", ("K",)),
    "csg/reliable": Rule("u", ("K",)),
    "csg/sizes": Rule("i", ("K",), 0),
    "csg/interval": Rule("f", ("",)),
    "csg/eigenvalues": Rule("f", ("",)),
    "csg/sweep_k": Rule("i", ("",)),
    "csg/sweep_csg": Rule("f", ("",)),
    "csg/*_shape": Rule("i", ("",)),
    "csg/*_indptr": Rule("i", ("K+1",), 0),
    "csg/*_indices": Rule("i", ("",), 0, "K", used=True),
    "noise/transition": Rule("f", ("K", "K")),
    "scores/blend": Rule("f", ("N",), 0, "1", used=True),
    "scores/*": Rule("f", ("N",), 0, "1"),
    "proposals/*": Rule("i", ("N",), -1, "K", used=True),
    "suggest/label": Rule("i", ("N", ""), -1, "K", used=True),
    "suggest/p": Rule("f", ("N", ""), 0, "1", used=True),
    "detectors/cleannet/cosine": Rule("f", ("N",)),
}
"""Rules by path; the first pattern that fits a dataset holds. Others are free."""

ATTRIBUTES: Mapping[str, Mapping[str, type]] = {
    "embeddings": {"default": str},
    "graph/*": {"k": int, "csg_k": int},
    "csg": {"csg": float, "k": int},
    "scores/*": {"k": int, "temperature": float, "title": str, "calibration_checks": int},
    "scores/blend": {
        "noise_level": float,
        "noise_structure": float,
        "error_rate": float,
        "anchor_error_rate": float,
        "flag_threshold": float,
    },
}
"""Types of the attributes that are used; whole numbers count as floats, and all are finite and not negative."""

REQUIRED = (
    *(f"samples/{name}" for name in ("id", "id_offsets", "split", "sha256", "status")),
    "labels/given",
    *(f"classes/{name}" for name in ("id", "id_offsets", "name", "name_offsets")),
    *(f"splits/{name}" for name in ("name", "name_offsets")),
    "groups/duplicate",
    "scores/blend",
    *(f"suggest/{name}" for name in ("label", "p")),
)
"""What audit.h5 must hold beside a default embedding, its graph and the counts of CSG."""

GRAPH = ("indices", "similarity", "rev_indptr", "rev_indices")
TABLES = ("samples/id", "classes/id", "classes/name", "splits/name")
_ROUNDING = 1e-5  # sums of float32 probabilities may pass 1 by so much


def sizes(file: H5) -> dict[str, int]:
    """Return what N, K and S are in an audit.h5.

    Raises
    ------
    KeyError
        A dataset that defines them is missing.
    """
    return {
        "N": (*file.shape("labels/given"), 0)[0],
        "K": (*file.shape("classes/id_offsets"), 1)[0] - 1,
        "S": (*file.shape("splits/name_offsets"), 1)[0] - 1,
    }


def datasets(file: H5) -> Iterator[tuple[str, Rule]]:
    """Yield the datasets of a file that have a rule, and their rules."""
    seen = set()
    for pattern, rule in RULES.items():
        for name in _matches(file, pattern.split("/")):
            if name not in seen:
                seen.add(name)
                yield name, rule


def _matches(file: H5, parts: list[str]) -> Iterator[str]:
    """Yield the paths that match a pattern; a star matches one part."""
    group = ""
    for position, part in enumerate(parts):
        if "*" in part:
            for name in file.names(group):
                if fnmatchcase(name, part):
                    rest = parts[position + 1 :]
                    path = "/".join([group, name]).lstrip("/")
                    if not rest:
                        yield path
                    elif (full := "/".join([path, *rest])) in file:
                        yield full
            return
        group = f"{group}/{part}".lstrip("/")
        if group not in file:
            return
    yield group


def shape_faults(file: H5, sizes: Mapping[str, int]) -> Iterator[str]:
    """Yield a description of each dataset whose type or shape contradicts its rule.

    Parameters
    ----------
    file : H5
    sizes : mapping of str to int
        Length of each axis by name, such as N and K.

    Yields
    ------
    str
    """
    for name, rule in datasets(file):
        try:
            shape, kind = file.shape(name), file.kind(name)
        except KeyError:
            yield f"{safe(name)} is a group"
            continue
        wanted = tuple(_length(axis, sizes) for axis in rule.axes)
        fits = len(shape) == len(wanted) and all(
            want is None or want == length for want, length in zip(wanted, shape, strict=True)
        )
        if kind != rule.kind or not fits:
            yield (
                f"{safe(name)} has shape {shape} and kind {kind!r} beside {sizes['N']} samples and "
                f"{sizes['K']} classes"
            )


def _length(axis: str, sizes: Mapping[str, int]) -> int | None:
    if not axis:
        return None
    return sizes[axis[0]] + (1 if axis.endswith("+1") else 0)


def value_faults(file: H5, sizes: Mapping[str, int], everything: bool = False) -> Iterator[str]:
    """Yield the datasets of a file that hold values out of range, in words.

    Parameters
    ----------
    file : H5
        Its shapes are right.
    sizes : mapping
        See `sizes`.
    everything : bool
        Check every dataset (reading the whole file), not only those that are used as soon as the audit is open.

    Raises
    ------
    DamagedAudit
        A dataset cannot be read.
    """
    for name, rule in datasets(file):
        if everything or rule.used:
            found = _fault(file[name], rule, sizes)
            if found:
                yield f"{safe(name)} {found}"
    yield from _attribute_faults(file)
    for name in TABLES:
        if f"{name}_offsets" in file and (np.diff(file[f"{name}_offsets"]) < 0).any():
            yield f"{name}_offsets goes back"
    for name in file.names("csg"):
        if name.endswith("_indptr"):
            yield from _matrix_faults(file, f"csg/{name.removesuffix('_indptr')}")
    if everything:
        for group in file.names("graph"):
            yield from _graph_faults(file, f"graph/{group}")


def _matrix_faults(file: H5, name: str) -> Iterator[str]:
    """Say whether a matrix in compressed rows contradicts itself; scipy follows its indices without looking."""
    try:
        starts, indices, data = (file[f"{name}_{part}"] for part in ("indptr", "indices", "data"))
        shape = file[f"{name}_shape"]
    except KeyError:
        yield f"{safe(name)} is incomplete"
        return
    wrong = starts[0] != 0 or (np.diff(starts) < 0).any() or not starts[-1] == len(indices) == len(data)
    if wrong or data.ndim != 1 or shape.tolist() != [len(starts) - 1] * 2:
        yield f"{safe(name)} contradicts itself"


def _attribute_faults(file: H5) -> Iterator[str]:
    for pattern, types in ATTRIBUTES.items():
        for name in _matches(file, pattern.split("/")):
            attrs = file.attrs(name)
            for key, kind in types.items():
                value = attrs.get(key)
                if value is None or (kind is str and isinstance(value, str)):
                    continue
                number = isinstance(value, (int, float) if kind is float else int) and not isinstance(
                    value, bool
                )
                if kind is str or not number or not 0 <= value < 2**31:
                    yield f"attribute {key} of {safe(name)} is {safe(repr(value), 40)}"


def _graph_faults(file: H5, graph: str) -> Iterator[str]:
    if not all(f"{graph}/{name}" in file for name in GRAPH):
        yield f"{safe(graph)} is incomplete"
        return
    indices, similarity = file[f"{graph}/indices"], file[f"{graph}/similarity"]
    starts, reverse = file[f"{graph}/rev_indptr"], file[f"{graph}/rev_indices"]
    if indices.shape != similarity.shape:
        yield f"{safe(graph)} has other indices than similarities"
        return
    if not len(starts) or starts[0] != 0 or starts[-1] != len(reverse) or (np.diff(starts) < 0).any():
        yield f"{safe(graph)}/rev_indptr does not span rev_indices"
    for rows in _blocks(similarity):
        near, far = similarity[rows, :-1], similarity[rows, 1:]
        if ((near < far) & (indices[rows, 1:] >= 0)).any():
            yield f"{safe(graph)}/similarity is not in descending order"
            return


def _fault(array: Array, rule: Rule, sizes: Mapping[str, int]) -> str:
    """Say what is wrong with the values of an array, or nothing."""
    if not array.size:
        return ""
    index = rule.high in ("N", "K", "S")
    high = None
    if rule.high:
        high = sizes[rule.high] - 1 if index else float(rule.high) + (_ROUNDING if rule.kind == "f" else 0)
    for rows in _blocks(array):
        least, most = array[rows].min(), array[rows].max()
        # Not a number passes through both, so that one look at each finds every kind of fault.
        if rule.kind == "f" and not (np.isfinite(least) and np.isfinite(most)):
            return "holds values that are not finite"
        if (rule.low is not None and least < rule.low) or (high is not None and most > high):
            what = f"indices below {sizes[rule.high]}" if index else f"values from {rule.low} to {rule.high}"
            return f"holds {least} to {most}, not {what if rule.high else f'values from {rule.low}'}"
    return ""


def _blocks(array: Array) -> Iterator[slice]:
    """Cut the first axis so that a block is never far above `BLOCK` bytes."""
    step = max(1, BLOCK // max(1, array.nbytes // max(1, len(array))))
    for start in range(0, len(array), step):
        yield slice(start, start + step)


def require_complete(file: H5, where: str) -> dict[str, int]:
    """Require that an audit.h5 has every mandatory dataset, in shapes that fit each other.

    Parameters
    ----------
    file : H5
    where : str
        Name of the file, for the message.

    Returns
    -------
    dict of str to int
        Its `sizes`.

    Raises
    ------
    DamagedAudit
        A dataset is missing or contradicts another.
    """
    try:
        found = sizes(file)
        for name in REQUIRED:
            file.shape(name)
        default = file.attrs("embeddings")["default"]
        for name in (f"embeddings/{default}", *(f"graph/{default}/{part}" for part in GRAPH)):
            file.shape(name)
        counts = tuple(file["csg/T_shape"].tolist()) if "csg/T_indptr" in file else file.shape("csg/T")
        faults = list(shape_faults(file, found))
        if file.shape(f"graph/{default}/indices") != file.shape(f"graph/{default}/similarity"):
            faults.append("the graph's indices and similarities differ in shape")
        if counts != (found["K"], found["K"]):
            faults.append(f"csg/T has shape {counts} beside {found['K']} classes")
        if file.shape("suggest/label") != file.shape("suggest/p") or 0 in file.shape("suggest/label")[1:]:
            faults.append("the suggestions and their probabilities differ in shape, or are none")
    except KeyError as error:
        faults = [f"{safe(str(error.args[0]))} is missing"]
    if faults:
        raise damaged(where, faults[0])
    return found


def damaged(where: str, got: str) -> DamagedAudit:
    """Return the error for a file that contradicts itself.

    Parameters
    ----------
    where : str
        Name of the file.
    got : str
        The contradiction.

    Returns
    -------
    DamagedAudit
    """
    return DamagedAudit(f"{safe(where)} must be complete", got, "copy it again, or scan again")
