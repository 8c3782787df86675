"""Detect wrong labels from training dynamics.

A network learns correct labels before wrong ones, and forgets wrong ones more readily. The training step records
five numbers about the given label per sample and epoch (`labeltui.head.Dynamics`, in head jobs, scans and
fine-tuning). A small LSTM, trained on many small data sets with injected label noise and shipped with the package,
turns these curves into the log-odds of a correct label (after Jia et al., AAAI 2023, arXiv 2212.09321, whose network
takes one curve of one length)::

    record (E, N) --curves: eight channels, 32 steps--> network --log-odds--> mean over records --> score
                  --run_features----------------------->       calibration: on noise injected in the same run

Records are the classifier's and those of the noise-corrected heads (`labeltui.detect.corrected`), which hold how
probable the given label is of being correct: forward correction (Patrini et al., CVPR 2017, section 4.2) keeps a head
from learning frequent mistakes, and Bayes' rule with the transition matrix reads the given label against it.

`statistics` has common alternatives from the same record. ``data/noise_detector`` trains the weights.
"""

from __future__ import annotations

from labeltui.detect.dynamics.detector import DynamicsDetector

__all__ = ["DynamicsDetector"]
