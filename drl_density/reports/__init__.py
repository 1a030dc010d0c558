"""HTML pages of results: a verdict in words, tables, figures and an appendix in one self-contained file."""

from drl_density.reports.page import ReportPage, ReportTable, figure_to_base64

__all__ = ["ReportPage", "ReportTable", "figure_to_base64"]
