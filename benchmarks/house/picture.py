"""The picture of the rooms, drawn from the import contracts in pyproject.toml.

python -m benchmarks.house.picture [FILE]

Every room is a box, its floors are the layers of its contract: what stands higher may import what stands lower.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "architecture.svg"
HOUSE = ("flows", "critical_neurons", "formulation", "training", "tracing")
COLOURS = {
    "flows": "#dbe9f6",
    "critical_neurons": "#fdf3c8",
    "formulation": "#e3f1dd",
    "training": "#fbe8d3",
    "tracing": "#e9e4f2",
}
FLOOR, WIDTH, GAP = 0.62, 5.2, 0.35


def floors_of(contracts: list[dict[str, object]]) -> dict[str, list[str]]:
    """The layers of each room, highest first, by the room's name."""
    found = {}
    for contract in contracts:
        match contract:
            case {"type": "layers", "containers": [room], "layers": list(layers)}:
                found[str(room)] = [str(layer).replace(" : ", " | ") for layer in layers]
    return found


def draw_house(floors: dict[str, list[str]]) -> Figure:
    """The rooms side by side, the libraries below the flows and tracing below them."""
    figure = Figure(figsize=(13, 10))
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    below = _room(axes, "tracing", floors["tracing"], 0.0, 0.0, 2 * WIDTH + GAP)
    tops = [
        _room(axes, name, floors[name], side * (WIDTH + GAP), below + GAP, WIDTH)
        for side, name in enumerate(("formulation", "training"))
    ]
    face = _room(axes, "critical_neurons", floors["critical_neurons"], 0.0, max(tops) + GAP, 2 * WIDTH + GAP)
    top = _room(axes, "flows", floors["flows"], 0.0, face + GAP, 2 * WIDTH + GAP)
    axes.set_xlim(-GAP / 2, 2 * WIDTH + 1.5 * GAP)
    axes.set_ylim(-GAP / 2, top + GAP / 2)
    axes.set_axis_off()
    return figure


def _room(axes: Axes, name: str, layers: list[str], left: float, bottom: float, width: float) -> float:
    """Draw one room; the height at which it ends."""
    height = FLOOR * (len(layers) + 1)
    corners = "round,pad=0,rounding_size=0.1"
    axes.add_patch(
        FancyBboxPatch((left, bottom), width, height, boxstyle=corners, facecolor=COLOURS[name], edgecolor="#555555")
    )
    axes.text(left + width / 2, bottom + height - FLOOR / 2, name, ha="center", va="center", fontsize=13, weight="bold")
    for number, layer in enumerate(layers):
        low = bottom + height - FLOOR * (number + 2)
        axes.plot([left, left + width], [low + FLOOR] * 2, color="#999999", linewidth=0.6)
        axes.text(
            left + width / 2, low + FLOOR / 2, layer.replace(" | ", "   "), ha="center", va="center", fontsize=9.5
        )
    return bottom + height


def main() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE
    FigureCanvasSVG(draw_house(floors_of(contracts))).print_svg(str(target), metadata={"Date": None})
    print(target)


if __name__ == "__main__":
    main()
