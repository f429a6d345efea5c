"""Pictures of a sweep: accuracy against what is removed, a curve per point."""

from collections.abc import Sequence

from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from flows.figures import KEPT, REMOVED

MARKERS = "osv^D<>pXP"  # besides the colour, for neighbouring points are of similar colours


def curve_figure(
    names: Sequence[str],
    percentages: Sequence[int],
    accuracies: Sequence[Sequence[float]],
    chosen: Sequence[tuple[float, float]],
) -> Figure:
    """Accuracies by the percentage removed, a curve per name, from blue to orange.

    `chosen` are the (share removed, accuracy) that each one's own selection came to: a star. All accuracies and shares
    are between 0 and 1.
    """
    colours = LinearSegmentedColormap.from_list("blue to orange", [KEPT / 255, REMOVED / 255])
    figure = Figure(figsize=(8, 5), layout="constrained")
    panel = figure.subplots()
    for place, (name, values, (share, accuracy)) in enumerate(zip(names, accuracies, chosen, strict=True)):
        colour, marker = colours(place / max(1, len(names) - 1)), MARKERS[place % len(MARKERS)]
        panel.plot(percentages, [100 * value for value in values], color=colour, marker=marker, label=name)
        panel.plot(100 * share, 100 * accuracy, color=colour, marker="*", markersize=16, markeredgecolor="black")
    panel.set(xlabel="units removed in %", ylabel="test accuracy in %", ylim=(0, 103))
    panel.legend(title="star: as selected")
    return figure
