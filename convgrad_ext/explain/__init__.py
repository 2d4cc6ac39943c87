"""``python -m convgrad_ext explain``: a layer as formulas, a picture or a page."""

from convgrad_ext.explain.command import add_arguments, run
from convgrad_ext.explain.layer import AxisOfLayer
from convgrad_ext.explain.text import explain

__all__ = ["AxisOfLayer", "add_arguments", "explain", "run"]
