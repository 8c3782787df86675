"""The process of a study: ``python -m labeltui.studies.child RUNDIR``."""

from __future__ import annotations

from labeltui.studies.job import run_study
from labeltui.train.child import main

if __name__ == "__main__":
    main(run_study)
