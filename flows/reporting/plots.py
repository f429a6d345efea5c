"""Plots of sweeps and of robustness: accuracy against what is removed, agreement of scoring sets, and their spread."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from flows.reporting.canvas import blank_figure
from flows.reporting.figures import KEPT, PAPER, REMOVED
from flows.reporting.rank_correlation import Agreement

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVE_MARKERS = "osv^D<>pXP"  # besides the colour, for neighbouring points are of similar colours


def agreement_figure(agreements: Mapping[str, Agreement]) -> "Figure":
    """A heat map per layer of Spearman's correlation between every two sets: orange -1, white 0, blue 1, grey none."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list(
        "orange to blue", [REMOVED / 255, PAPER / 255, KEPT / 255], bad="lightgrey"
    )
    figure = blank_figure(3.4 * len(agreements) + 0.8, 3.6)
    panels = figure.subplots(1, len(agreements), squeeze=False)[0]
    for panel, (layer, each) in zip(panels, agreements.items(), strict=True):
        shown = panel.imshow(each.correlations, cmap=colours, vmin=-1.0, vmax=1.0, interpolation="nearest")
        mean = "constant" if each.mean is None else f"mean {each.mean:.2f}"
        panel.set(title=f"{layer}: {mean}", xlabel="set", ylabel="set")
    figure.colorbar(shown, ax=list(panels), label="Spearman's correlation")
    return figure


def spread_figure(spreads: Mapping[str, Mapping[str, Sequence[float]]]) -> "Figure":
    """Boxes over the scoring sets, a panel per figure and a box per kind: `spreads[figure][kind]`."""
    figure = blank_figure(4.0 * len(spreads), 3.6)
    panels = figure.subplots(1, len(spreads), squeeze=False)[0]
    for panel, (name, kinds) in zip(panels, spreads.items(), strict=True):
        boxes = panel.boxplot(list(kinds.values()), tick_labels=list(kinds), patch_artist=True, whis=(0, 100))
        for box in boxes["boxes"]:
            box.set_facecolor(KEPT / 255)
        for median in boxes["medians"]:
            median.set(color=REMOVED / 255, linewidth=2)
        panel.set_title(name)
    return figure


def curve_figure(
    names: Sequence[str],
    percentages: Sequence[int],
    accuracies: Sequence[Sequence[float]],
    chosen: Sequence[tuple[float, float]],
) -> "Figure":
    """Accuracies by the percentage removed, a curve per name, from blue to orange.

    `chosen` are the (share removed, accuracy) that each one's own selection came to: a star. All accuracies and shares
    are between 0 and 1.
    """
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("blue to orange", [KEPT / 255, REMOVED / 255])
    figure = blank_figure(8, 5)
    panel = figure.subplots()
    for place, (name, values, (share, accuracy)) in enumerate(zip(names, accuracies, chosen, strict=True)):
        colour, marker = colours(place / max(1, len(names) - 1)), CURVE_MARKERS[place % len(CURVE_MARKERS)]
        panel.plot(percentages, [100 * value for value in values], color=colour, marker=marker, label=name)
        panel.plot(100 * share, 100 * accuracy, color=colour, marker="*", markersize=16, markeredgecolor="black")
    panel.set(xlabel="units removed in %", ylabel="test accuracy in %", ylim=(0, 103))
    panel.legend(title="star: as selected")
    return figure


def cost_figure(
    curves: Mapping[str, Sequence[tuple[float, float]]], chosen: Mapping[str, tuple[float, float]], least: float
) -> "Figure":
    """Validation accuracy against the part of a cost that remains, a panel per cost; the line is the least allowed.

    `chosen` is the (part, accuracy) of the network that was taken: a star. All are between 0 and 1.
    """
    figure = blank_figure(5.0 * len(curves), 4.0)
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for panel, (name, curve) in zip(panels, curves.items(), strict=True):
        parts, accuracies = zip(*sorted(curve), strict=True)
        panel.plot([100 * each for each in parts], [100 * each for each in accuracies], color=KEPT / 255, marker="o")
        part, accuracy = chosen[name]
        panel.plot(100 * part, 100 * accuracy, color=REMOVED / 255, marker="*", markersize=16, markeredgecolor="black")
        panel.axhline(100 * least, color=REMOVED / 255)
        panel.set(xlabel=f"{name.replace('_', '-')} that remain in %", ylabel="validation accuracy in %")
    return figure


def sensitivity_figure(curves: Mapping[str, Sequence[tuple[int, float]]], least: float) -> "Figure":
    """Validation accuracy by the percentage removed of one layer alone, a curve per layer; the line is the least."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("blue to orange", [KEPT / 255, REMOVED / 255])
    figure = blank_figure(8, 5)
    panel = figure.subplots()
    for place, (layer, curve) in enumerate(curves.items()):
        percentages, accuracies = zip(*curve, strict=True)
        colour, marker = colours(place / max(1, len(curves) - 1)), CURVE_MARKERS[place % len(CURVE_MARKERS)]
        panel.plot(percentages, [100 * each for each in accuracies], color=colour, marker=marker, label=layer)
    panel.axhline(100 * least, color="black", linewidth=0.8)
    panel.set(xlabel="units of this layer removed in %", ylabel="validation accuracy in %")
    panel.legend(title="the line: least within the tolerance")
    return figure
