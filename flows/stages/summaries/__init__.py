"""Summaries of a main run: its figures in a few words, and the HTML report.

They read what the other stages logged.
"""

from flows.stages.summaries.summary import summarise

__all__ = [
    "summarise",
]
