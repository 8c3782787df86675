"""What a training job does: everything that decides its result, as one JSON file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labeltui.errors import JobError
from labeltui.text import safe

FORMAT = 1


@dataclass(frozen=True)
class TrainSpec:
    """The description of one training job.

    Attributes
    ----------
    kind : str
        ``head``: a classifier head on the stored embeddings, out of fold.
    audit_uuid : str
        The audit it belongs to.
    generation : int
        The generation whose embedding and graph are used.
    label_sha256 : str
        Hash of the label vector beside the spec, so that a result names the labels it was trained on.
    journal_seq : int
        The last action of the journal that the labels contain.
    folds : int
        Folds of the out-of-fold prediction, grouped by duplicates.
    seed : int
        Seed of folds, weights and batches.
    device : str
        ``auto``, ``cpu`` or ``cuda[:n]``.
    threads : int
        CPU threads.
    """

    kind: str
    audit_uuid: str
    generation: int
    label_sha256: str
    journal_seq: int
    folds: int = 5
    seed: int = 0
    device: str = "auto"
    threads: int = 1
    format: int = FORMAT

    def write(self, path: Path) -> None:
        """Write the spec as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> TrainSpec:
        """Read a spec.

        Raises
        ------
        JobError
            The file is missing, damaged, or was written by a newer labeltui.
        """
        try:
            data = json.loads(path.read_text())
            if data["format"] > FORMAT:
                raise JobError(
                    f"this labeltui reads run format {FORMAT} and older",
                    f"{safe(str(path))} has format {data['format']}",
                    "use the labeltui that started the run",
                )
            return cls(**{field.name: data[field.name] for field in fields(cls)})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise JobError("a run needs a readable spec.json", f"{safe(str(path))}: {error!r}") from None


def label_hash(labels: NDArray[np.int32]) -> str:
    """SHA-256 of a label vector, as hex."""
    return hashlib.sha256(np.ascontiguousarray(labels, dtype="<i4").tobytes()).hexdigest()
