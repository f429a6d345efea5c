"""Pictures of robustness: how far scoring sets agree, and how far what follows from them spreads."""

from collections.abc import Mapping, Sequence

from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from flows.agreement import Agreement
from flows.figures import KEPT, PAPER, REMOVED


def agreement_figure(agreements: Mapping[str, Agreement]) -> Figure:
    """A heat map per layer of Spearman's correlation between every two sets: orange -1, white 0, blue 1, grey none."""
    colours = LinearSegmentedColormap.from_list(
        "orange to blue", [REMOVED / 255, PAPER / 255, KEPT / 255], bad="lightgrey"
    )
    figure = Figure(figsize=(3.4 * len(agreements) + 0.8, 3.6), layout="constrained")
    panels = figure.subplots(1, len(agreements), squeeze=False)[0]
    for panel, (layer, each) in zip(panels, agreements.items(), strict=True):
        shown = panel.imshow(each.correlations, cmap=colours, vmin=-1.0, vmax=1.0, interpolation="nearest")
        mean = "constant" if each.mean is None else f"mean {each.mean:.2f}"
        panel.set(title=f"{layer}: {mean}", xlabel="set", ylabel="set")
    figure.colorbar(shown, ax=list(panels), label="Spearman's correlation")
    return figure


def spread_figure(spreads: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Boxes over the scoring sets, a panel per figure and a box per kind: `spreads[figure][kind]`."""
    figure = Figure(figsize=(4.0 * len(spreads), 3.6), layout="constrained")
    panels = figure.subplots(1, len(spreads), squeeze=False)[0]
    for panel, (name, kinds) in zip(panels, spreads.items(), strict=True):
        boxes = panel.boxplot(list(kinds.values()), tick_labels=list(kinds), patch_artist=True, whis=(0, 100))
        for box in boxes["boxes"]:
            box.set_facecolor(KEPT / 255)
        for median in boxes["medians"]:
            median.set(color=REMOVED / 255, linewidth=2)
        panel.set_title(name)
    return figure
