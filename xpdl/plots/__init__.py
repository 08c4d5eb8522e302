"""Figures of training and of what nets do, one call each (``pip install "xpdl[plot]"`` brings matplotlib).

Every function takes arrays of any library and returns a `matplotlib.figure.Figure`, which ``figure.savefig("name.png")``
writes; nothing of matplotlib's global state is touched. Ink on white paper reads in print and on a dark page, and curves
differ in line style as well as in colours that the colour-blind tell apart. Computed on the host, in NumPy.

Examples
--------
>>> from xpdl.plots import curves
>>> figure = curves({"loss": [2.3, 0.9, 0.4]}, xlabel="epoch")  # doctest: +SKIP
>>> figure.savefig("loss.png")  # doctest: +SKIP
"""

from xpdl.plots.curves import curve_grid, curves, learning_curves, search_results
from xpdl.plots.decision_surface import decision_boundary, gradient_field, optimizer_paths
from xpdl.plots.diagnostics import diagnostics
from xpdl.plots.distributions import activation_histograms, confusion_matrix
from xpdl.plots.image_grid import augmented, feature_maps, filters, images, misclassified
from xpdl.plots.live import LiveCurves
from xpdl.plots.network import network

__all__ = [
    "LiveCurves",
    "activation_histograms",
    "augmented",
    "confusion_matrix",
    "curve_grid",
    "curves",
    "decision_boundary",
    "diagnostics",
    "feature_maps",
    "filters",
    "gradient_field",
    "images",
    "learning_curves",
    "misclassified",
    "network",
    "optimizer_paths",
    "search_results",
]
