"""Reporting: figures, plots, tables in Markdown, rank correlation, and one HTML page of a run.

Values in, pictures and pages out; nothing here opens a run.
"""

from flows.reporting.estimates import Estimate, estimate
from flows.reporting.html_page import Command, Picture, Section, Table, figure_png, page, pixels_png
from flows.reporting.markdown import markdown_table
from flows.reporting.rank_correlation import Agreement, agreement_by_layer, spearman

__all__ = [
    "Agreement",
    "Command",
    "Estimate",
    "Picture",
    "Section",
    "Table",
    "agreement_by_layer",
    "estimate",
    "figure_png",
    "markdown_table",
    "page",
    "pixels_png",
    "spearman",
]
