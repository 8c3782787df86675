"""Reading wrong labels off the course of training.

A network learns right labels before wrong ones, and gives up wrong ones more readily. Per sample and epoch the
training step records five numbers about the given label (`labeltui.head.Dynamics`: in head jobs and scans as in
fine-tuning); a small LSTM, trained on many small data sets with planted errors and shipped with the package, reads
the curves and says how far the label is to be trusted (after Jia et al., AAAI 2023, arXiv 2212.09321, whose
network reads one curve of one length)::

    record (E, N) --curves: eight channels, 32 steps--> network --log-odds--> score
                  --company: what the run says-------->           planting: calibrated by errors planted in the same run

`statistics` has what is commonly computed from the same record instead. ``data/noise_detector`` makes the weights.
"""

from __future__ import annotations

from labeltui.detect.dynamics.detector import DynamicsDetector

__all__ = ["DynamicsDetector"]
