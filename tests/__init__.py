"""One thread a process, unless a test asks for more: the processes of a run share the cores already.

Two processes with a pool as large as the machine each wait for each other's threads: a training loop of a second took
80 of them.
"""

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

SHARED = "LABELTUI_TEST_AUDITS"
"""Environment variable with a directory in which all processes of one test run keep what they made."""
