"""HTML pages of results: a verdict in words, figures, tables and an appendix in one self-contained file."""

from drl_density.reports.figures import figure_to_png, figure_to_svg
from drl_density.reports.page import KeyFigure, ReportPage, ReportPanel, ReportSection, ReportTable

__all__ = [
    "KeyFigure",
    "ReportPage",
    "ReportPanel",
    "ReportSection",
    "ReportTable",
    "figure_to_png",
    "figure_to_svg",
]
