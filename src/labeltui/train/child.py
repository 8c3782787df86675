"""The training process: ``python -m labeltui.train.child RUNDIR``, detached from whoever started it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from labeltui import store
from labeltui.errors import Cancelled, JobError, LabeltuiError
from labeltui.train.jobs import HEARTBEAT_SECONDS, identity
from labeltui.train.spec import TrainSpec, label_hash

HEAD_SHARE = 0.95  # of the time; the rest is scoring


class Run:
    """A job's directory as its own process sees it: it reports, beats, and asks whether to stop."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._events = open(directory / "events.jsonl", "a", encoding="utf-8", buffering=1)  # noqa: SIM115
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._last = 0.0

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Keep the heartbeat fresh, and take SIGTERM as a wish to stop."""

        def on_terminate(number: int, frame: FrameType | None) -> None:
            self._stop.set()

        signal.signal(signal.SIGTERM, on_terminate)
        beat = {**identity(), "time": time.time()}
        store.write_json(self.directory / "heartbeat.json", beat)
        thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
            self._events.close()

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            # Touched, not rewritten: readers on other hosts go by its time, those on this host by the process.
            with contextlib.suppress(OSError):
                os.utime(self.directory / "heartbeat.json")

    def cancelled(self) -> bool:
        """Whether someone asked this job to stop."""
        return self._stop.is_set() or (self.directory / "cancel").exists()

    def event(self, stage: str, progress: float) -> None:
        """Report where it is; at most ten lines a second."""
        now = time.monotonic()
        if progress < 1.0 and now - self._last < 0.1:
            return
        self._last = now
        line = {"time": round(time.time(), 3), "stage": stage, "progress": round(progress, 4)}
        self._events.write(json.dumps(line) + "\n")

    def exit(self, state: str, message: str = "", **more: Any) -> None:
        """Say how it ended; the last thing a job writes."""
        store.write_json(
            self.directory / "exit.json", {"state": state, "message": message, "time": time.time(), **more}
        )


def run(directory: Path) -> str:
    """Do the job that stands in `directory`; return the state it ended in."""
    job = Run(directory)
    with job.beating():
        try:
            more: dict[str, int] = {"flags": train_head(job)}
            state, message = "done", ""
        except Cancelled:
            state, message, more = "cancelled", "stopped on request", {}
        except LabeltuiError as error:
            state, message, more = "failed", str(error), {}
        except Exception as error:
            # The process is nobody's child: what is not written down here is lost.
            traceback.print_exc()
            state, message, more = "failed", f"{type(error).__name__}: {error}", {}
        job.exit(state, message, **more)
    return state


def train_head(job: Run) -> int:
    """Re-train the head on the labels of the job, score every sample again, and write result.h5.

    Returns
    -------
    int
        Flags under the new scores.
    """
    from labeltui import detect, head

    spec = TrainSpec.read(job.directory / "spec.json")
    try:
        labels = np.load(job.directory / "labels.npy", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise JobError(
            "a run needs its labels", f"labels.npy cannot be read: {error}", "start a new run"
        ) from None
    if label_hash(labels) != spec.label_sha256:
        raise JobError(
            "labels.npy must be the labels that spec.json names", "the hashes differ", "start a new run"
        )
    with store.Store.open(job.directory.parent.parent, spec.generation) as audit:
        if audit.uuid != spec.audit_uuid:
            raise JobError(
                "a run belongs to one audit",
                f"this one belongs to {spec.audit_uuid}, the audit is {audit.uuid}",
                "start a new run",
            )
        graph = f"graph/{audit.embedding_name}"
        count = int(audit.attrs(graph)["csg_k"])
        indices = audit.array(f"{graph}/indices")
        # What the scan left out (another split, no usable embedding) has no neighbours and stays out.
        inside = (audit.status == store.OK) & (indices[:, 0] >= 0)
        groups = audit.array("groups/duplicate")
        classes = len(audit.class_ids)
        job.event("folds", 0.0)
        fold = head.folds(labels, groups, inside, spec.folds, spec.seed)
        result = head.out_of_fold(
            audit.embedding(),
            labels,
            fold,
            classes,
            seed=spec.seed,
            threads=spec.threads,
            device=spec.device,
            progress=lambda epoch: job.event("head", HEAD_SHARE * epoch.done / epoch.total),
            cancel=job.cancelled,
        )
        facts = detect.Facts(
            labels=labels,
            n_classes=classes,
            ok=inside,
            indices=indices[:, :count],
            similarity=audit.array(f"{graph}/similarity")[:, :count],
            groups=groups,
            p_head=result.p,
            pred_probs=audit.array("pred_probs") if "pred_probs" in audit else None,
            embeddings=audit.embedding(),
            fold=fold,
            given=audit.given,
            seed=spec.seed,
            threads=spec.threads,
        )
        findings = detect.run(
            facts,
            lambda share: job.event("score", HEAD_SHARE + (1 - HEAD_SHARE) * share),
            cancel=job.cancelled,
        )
        flagged = inside & (audit.given >= 0) & (findings.suggest_label[:, 0] != audit.given)
        attrs: dict[str, dict[str, Any]] = {
            path: dict(values) for path, values in detect.attributes(findings).items()
        }
        attrs["scores/head"] |= result.attrs
        built_on = {audit.origin(f"{graph}/indices"), audit.origin(f"embeddings/{audit.embedding_name}")}
        attrs[""] = store.generation_attrs(audit.uuid, built_on, run=job.directory.name)
        if job.cancelled():
            raise Cancelled("the run was stopped", "before its result was written")
        store.write_h5(job.directory / "result.h5", detect.datasets(findings), attrs)
    return int(flagged.sum())


if __name__ == "__main__":
    with contextlib.suppress(OSError):
        os.nice(10)  # the terminal UI and other people come first
    sys.exit(0 if run(Path(sys.argv[1])) == "done" else 1)
