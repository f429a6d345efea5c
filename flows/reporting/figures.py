"""Pictures for the tracking UI: masks, scores, scoring sets. Arrays [height, width, 3], uint8, or figures."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flows.reporting.canvas import blank_figure
from training import Masks, Scores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pixels = NDArray[np.uint8]

KEPT = np.array([33, 102, 172], np.uint8)  # blue and orange: distinct to the colour-blind too
REMOVED = np.array([253, 174, 97], np.uint8)
PAPER = np.array([255, 255, 255], np.uint8)
WIDTH = 640  # pixels that a picture aims at: the UI does not enlarge
CELLS = (16, 64)  # smallest and largest side of a square
GAP = 3
FRAME = 5
SHOWN_INPUTS = 16  # kernels shown per feature map; more would not fit a screen
MARKERS = "os^vDP"
NAMED_CLASSES = 20  # more names would overlap


def mask_picture(mask: NDArray[np.bool_]) -> Pixels:
    """One square per unit, row by row in the units' order: blue is kept, orange removed."""
    columns = _columns(len(mask))
    cell = _cell(columns)
    picture = _sheet(math.ceil(len(mask) / columns), columns, cell)
    for unit, kept in enumerate(mask):
        _place(picture, unit // columns, unit % columns, np.broadcast_to(_colour(bool(kept)), (cell, cell, 3)))
    return picture


def kernel_picture(mask: NDArray[np.bool_], weights: NDArray[np.float32]) -> Pixels:
    """The kernels [units, inputs, height, width]: one row per feature map, one column per input channel.

    The kernels of a single input channel stand side by side, row by row. Grey is weight 0, white the layer's largest
    and black its smallest; framed blue is kept, orange removed.
    """
    units, inputs = weights.shape[0], min(weights.shape[1], SHOWN_INPUTS)
    columns = inputs if inputs > 1 else _columns(units)
    cell = _cell(columns)
    largest = float(np.abs(weights).max()) or 1.0
    picture = _sheet(math.ceil(units * inputs / columns), columns, cell)
    for number in range(units * inputs):
        unit, channel = divmod(number, inputs)
        grey = (127.5 + 127.5 * weights[unit, channel] / largest).astype(np.uint8)
        tile = np.broadcast_to(_colour(bool(mask[unit])), (cell, cell, 3)).copy()
        tile[FRAME:-FRAME, FRAME:-FRAME] = _enlarge(grey, cell - 2 * FRAME)[:, :, None]
        _place(picture, number // columns, number % columns, tile)
    return picture


def image_picture(images: NDArray[np.float32], columns: int) -> Pixels:
    """Images [n, C, H, W] in [0, 1] on one sheet, row by row."""
    rows = math.ceil(len(images) / columns)
    scale = max(1, 56 // images.shape[-1])
    height, width = images.shape[2] * scale, images.shape[3] * scale
    sheet = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), 255, np.uint8)
    for number, image in enumerate(images):
        colour = np.moveaxis((255 * image).astype(np.uint8), 0, 2)
        tile = np.repeat(np.repeat(colour, scale, axis=0), scale, axis=1)
        top, left = GAP + number // columns * (height + GAP), GAP + number % columns * (width + GAP)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def score_histogram(scores: Scores, threshold: float | None = None) -> "Figure":
    """A histogram of each layer's scores, with the threshold as a line."""
    figure = blank_figure(7, 1.8 * len(scores) + 0.6)
    panels = figure.subplots(len(scores), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (layer, values) in zip(panels, scores.items(), strict=True):
        # One outline, which is drawn many times as fast as a bar for each bin.
        panel.stairs(*np.histogram(values, bins=np.linspace(0.0, 1.0, 41)), fill=True, color=KEPT / 255)
        panel.set_ylabel("units")
        panel.set_title(f"{layer}: {len(values)} units", loc="left", fontsize=10)
        if threshold is not None:
            panel.axvline(threshold, color=REMOVED / 255, linewidth=2)
    panels[-1].set_xlabel("score (0: removable, 1: critical)")
    return figure


def accuracy_figure(accuracies: dict[str, float]) -> "Figure":
    """A bar of test accuracy per named network."""
    return _bar_figure(accuracies, "test accuracy in %", digits=2)


def table_figure(
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]], names: Sequence[str]
) -> "Figure":
    """A panel of accuracies per title: a row of points with error bars per series, one point per name.

    Series whose name begins with "own" are blue, all others orange; series of one colour differ in their markers.
    """
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = blank_figure(6.5 * columns, 3.2 * rows + 0.8)
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for place, (title, series) in zip(places, panels.items(), strict=False):
        seen = {True: 0, False: 0}
        for number, (name, (values, errors)) in enumerate(series.items()):
            own = name.startswith("own")
            style = {"color": (KEPT if own else REMOVED) / 255, "fmt": MARKERS[seen[own] % len(MARKERS)]}
            seen[own] += 1
            # Side by side, so that points of the same height do not hide each other.
            across = np.arange(len(names)) + 0.5 * ((number + 0.5) / len(series) - 0.5)
            place.errorbar(across, 100 * np.array(values), 100 * np.array(errors), capsize=2, label=name, **style)
        place.set_xticks(range(len(names)), names, rotation=25, ha="right", fontsize=8)
        place.set_title(title, loc="left", fontsize=10)
        place.set_ylabel("test accuracy in %")
        place.legend(fontsize=7)
    for place in places[len(panels) :]:
        place.set_axis_off()
    return figure


def arm_figure(means: Mapping[str, float], errors: Mapping[str, float]) -> "Figure":
    """A point per named arm, its mean accuracy, with its standard error, if any, to both sides."""
    figure = blank_figure(9, 0.4 * len(means) + 1.0)
    panel = figure.subplots()
    names = list(means)[::-1]
    values, reach = [100 * means[name] for name in names], [100 * errors.get(name, 0.0) for name in names]
    panel.errorbar(values, names, xerr=reach, fmt="o", color=KEPT / 255, ecolor=REMOVED / 255, elinewidth=3, capsize=4)
    panel.grid(axis="x", alpha=0.3)
    panel.margins(y=0.08)
    panel.set_xlabel("test accuracy in %" + (", with standard errors" if errors else ""))
    return figure


def share_figure(shares: Mapping[str, float]) -> "Figure":
    """A bar per share that stays, 1 being all."""
    return _bar_figure(shares, "stays, in %", digits=1)


def pull_figure(pulls: Mapping[str, NDArray[np.float64]], classes: Sequence[str]) -> "Figure":
    """A heat map per layer of what each class's images pull at each unit, [units, classes]."""
    height = max(1.6, 0.16 * len(classes))
    figure = blank_figure(9, (height + 0.6) * len(pulls))
    panels = figure.subplots(len(pulls), 1, squeeze=False)[:, 0]
    for panel, (layer, sums) in zip(panels, pulls.items(), strict=True):
        shown = panel.imshow(sums.T, aspect="auto", cmap="Blues", interpolation="nearest", vmin=0.0)
        figure.colorbar(shown, ax=panel, label="pull")
        panel.set_title(f"{layer}: {len(sums)} units", loc="left", fontsize=10)
        panel.set_ylabel("class")
        if len(classes) <= NAMED_CLASSES:
            panel.set_yticks(range(len(classes)), classes, fontsize=7)
    panels[-1].set_xlabel("unit")
    return figure


def range_figure(ranges: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]], scores: Scores) -> "Figure":
    """The range of each score as a line and the score as a dot, units in the order of their scores."""
    figure = blank_figure(9, 2.2 * len(scores) + 0.6)
    panels = figure.subplots(len(scores), 1, squeeze=False)[:, 0]
    for panel, (layer, values) in zip(panels, scores.items(), strict=True):
        order, (lowest, highest) = np.argsort(values, kind="stable"), ranges[layer]
        places = np.arange(len(values))
        panel.vlines(places, lowest[order], highest[order], color=REMOVED / 255, linewidth=2)
        panel.plot(places, values[order], ".", color=KEPT / 255)
        panel.set_title(f"{layer}: {len(values)} units", loc="left", fontsize=10)
        panel.set(ylabel="score", ylim=(-0.05, 1.05))
    panels[-1].set_xlabel("units in the order of their scores")
    return figure


def unit_columns(
    scores: Scores, masks: Masks | None = None, others: Mapping[str, Mapping[str, NDArray[np.generic]]] | None = None
) -> dict[str, list[object]]:
    """Scores as a table with one row per unit: its name (layer and number), score, and what else is given about it.

    `others` are further columns by name, one value per unit by layer; `masks` say whether it is kept.

    The UI's comparison groups rows by the first column and compares the second between runs.
    """
    units = [(layer, number) for layer, values in scores.items() for number in range(len(values))]
    columns: dict[str, list[object]] = {
        "unit": [f"{layer} {number}" for layer, number in units],
        "score": [float(scores[layer][number]) for layer, number in units],
    }
    for name, values in (others or {}).items():
        columns[name] = [values[layer][number].item() for layer, number in units]
    if masks is not None:
        columns["kept"] = [bool(masks[layer][number]) for layer, number in units]
    return columns | {"layer": [layer for layer, _ in units], "number": [number for _, number in units]}


def _bar_figure(parts: Mapping[str, float], label: str, digits: int) -> "Figure":
    """A bar in % per named part of 1, the first one on top, its value beside it."""
    figure = blank_figure(7, 0.5 * len(parts) + 1.0)
    panel = figure.subplots()
    names = list(parts)[::-1]
    bars = panel.barh(names, [100 * parts[name] for name in names], color=KEPT / 255)
    panel.bar_label(bars, fmt=f"%.{digits}f %%", padding=3)
    panel.set_xlim(0, 115 * max(1.0, *parts.values()))
    panel.set_xlabel(label)
    return figure


def _columns(units: int) -> int:
    """Columns of a sheet about twice as wide as high."""
    return math.ceil(math.sqrt(2 * units))


def _cell(columns: int) -> int:
    smallest, largest = CELLS
    return min(largest, max(smallest, WIDTH // columns - GAP))


def _colour(kept: bool) -> Pixels:
    return KEPT if kept else REMOVED


def _sheet(rows: int, columns: int, cell: int) -> Pixels:
    shape = (rows * (cell + GAP) + GAP, columns * (cell + GAP) + GAP, 3)
    return np.broadcast_to(PAPER, shape).copy()


def _place(sheet: Pixels, row: int, column: int, tile: Pixels) -> None:
    height, width = tile.shape[:2]
    top, left = GAP + row * (height + GAP), GAP + column * (width + GAP)
    sheet[top : top + height, left : left + width] = tile


def _enlarge(picture: Pixels, size: int) -> Pixels:
    """Nearest neighbour to size x size: a kernel's weights stay square and sharp."""
    rows = np.arange(size) * picture.shape[0] // size
    columns = np.arange(size) * picture.shape[1] // size
    return picture[np.ix_(rows, columns)]
