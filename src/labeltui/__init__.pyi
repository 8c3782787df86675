"""Types of the public names, which `__init__.py` loads when they are first used."""

from labeltui.api import Audit as Audit
from labeltui.api import knn_graph as knn_graph
from labeltui.api import open_audit as open_audit
from labeltui.api import scan as scan
from labeltui.estimator import CumulativeSpectralGradient as CumulativeSpectralGradient
from labeltui.issues import LabelIssues as LabelIssues
from labeltui.issues import find_label_issues as find_label_issues

__version__: str
