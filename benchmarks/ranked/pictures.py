"""Curves of the ranking benchmark: accuracy after refit against what is removed, one panel per network and data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from benchmarks.ranked.measuring import CHOICE, REFITTED, STEPS
from benchmarks.ranked.rules import FISHER
from benchmarks.ranked.tables import Group

COLOURS = {CHOICE: "#1f4fbf", STEPS: "#c0392b", FISHER: "#2e8b57", "random": "#999999"}
WIDE, USUAL = 2.6, 1.2


def curve_figure(groups: Sequence[Group]) -> Figure:
    """Means over the seeds, with standard errors of the choice.

    Args:
        groups: of one way of counting.
    """
    columns = min(len(groups), 2)
    rows = -(-len(groups) // columns)
    figure = Figure(figsize=(5.2 * columns, 3.4 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, group in zip(panels, groups, strict=False):
        percent = [100 * float(level) for level in group.levels]
        for rule in group.rules:
            found = group.curve(rule, REFITTED)
            style = {"color": COLOURS[rule]} if rule in COLOURS else {}
            width = WIDE if rule == CHOICE else USUAL
            (line,) = panel.plot(percent, found.mean(axis=0), label=rule.replace("_", " "), linewidth=width, **style)
            if rule == CHOICE and len(found) > 1:
                mean, error = found.mean(axis=0), found.std(axis=0, ddof=1) / np.sqrt(len(found))
                panel.fill_between(percent, mean - error, mean + error, color=line.get_color(), alpha=0.2)
        panel.axhline(group.dense, color="black", linewidth=0.8, linestyle=":")
        panel.set_title(group.title, loc="left", fontsize=10)
        panel.set(xlabel=f"removed in %, {group.counting} counts", ylabel="test accuracy in %, refitted")
        panel.grid(alpha=0.25)
    for panel in panels[len(groups) :]:
        panel.remove()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=5, fontsize=8)
    return figure
