"""Tables and pictures of the ranking benchmark, from what its cells measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.ranking_cell import COUNTINGS, PROGRAM, RANDOM, RULES

MODELS = {"fc3": "FC-3", "fc4": "FC-4", "lenet5": "LeNet-5"}
DATASETS = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
OTHERS = (*RULES, RANDOM)
UP_TO, MOST_BELOW = 0.6, 0.5  # at levels up to 60 % never more than half a point below the best rule
HARMLESS = 0.2  # points of accuracy lost
LEAST_REMOVED = {("lenet5", "mnist"): 0.3, ("lenet5", "fashion_mnist"): 0.2, ("fc3", "mnist"): 0.2}
LEAST_REMOVED[("fc3", "fashion_mnist")] = 0.2
MOST_LOST_RETRAINED = {"mnist": 0.3, "fashion_mnist": 0.5}
COLOURS = {PROGRAM: "#1f4fbf", RANDOM: "#999999", "critical": "#cccccc"}

Found = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Group:
    """A network on a data set: what each training seed's cell found."""

    model: str
    dataset: str
    levels: tuple[float, ...]
    found: tuple[Found, ...]

    @property
    def title(self) -> str:
        return f"{MODELS[self.model]}, {DATASETS[self.dataset]}"

    @property
    def dense(self) -> NDArray[np.float64]:
        """Test accuracy in % by seed."""
        return np.array([each["dense"] for each in self.found])

    def curves(self, counting: str, name: str) -> NDArray[np.float64]:
        """Test accuracies in % [seeds, levels]."""
        return np.array([each[counting]["curves"][name] for each in self.found])

    def area(self, counting: str, name: str) -> tuple[float, float]:
        """Mean over the levels: its mean over the seeds, and its standard error."""
        return _mean(self.curves(counting, name).mean(axis=1))

    def best_rule(self, counting: str) -> str:
        """The simple rule with the largest area."""
        return max(OTHERS, key=lambda rule: self.area(counting, rule)[0])

    def retrained(self, counting: str, level: str, name: str) -> NDArray[np.float64]:
        """Test accuracy in % by seed after one epoch."""
        return np.array([each[counting]["retrained"][level][name] for each in self.found])


def area_table(groups: Sequence[Group]) -> Iterator[str]:
    """Areas with their standard errors, the program first; does it win against every rule?"""
    yield f"| network, data | counts per layer | program | {' | '.join(f'`{rule}`' for rule in OTHERS)} | wins |"
    yield f"|{'---|' * (len(OTHERS) + 4)}"
    for group in groups:
        for counting in COUNTINGS:
            areas = {name: group.area(counting, name) for name in (PROGRAM, *OTHERS)}
            best = group.best_rule(counting)
            cells = [f"{mean:.1f} ({error:.1f})" for mean, error in (areas[name] for name in OTHERS)]
            cells[OTHERS.index(best)] = f"*{cells[OTHERS.index(best)]}*"
            wins = areas[PROGRAM][0] > areas[best][0]
            ours = f"**{areas[PROGRAM][0]:.1f} ({areas[PROGRAM][1]:.1f})**"
            yield f"| {group.title} | {counting} | {ours} | {' | '.join(cells)} | {_word(wins)} |"


def level_table(groups: Sequence[Group]) -> Iterator[str]:
    """At every level the program and the best rule there, in %, means over the seeds."""
    levels = groups[0].levels
    yield f"| network, data (dense) | counts per layer | {' | '.join(f'{level:.0%}' for level in levels)} | holds |"
    yield f"|{'---|' * (len(levels) + 3)}"
    for group in groups:
        for counting in COUNTINGS:
            ours = group.curves(counting, PROGRAM).mean(axis=0)
            best = np.max([group.curves(counting, rule).mean(axis=0) for rule in OTHERS], axis=0)
            early = np.array(group.levels) <= UP_TO + 1e-9
            holds = bool(((ours - best)[early] >= -MOST_BELOW).all())
            cells = " | ".join(f"{a:.1f} / {b:.1f}" for a, b in zip(ours, best, strict=True))
            yield f"| {group.title} ({group.dense.mean():.2f}) | {counting} | {cells} | {_word(holds)} |"


def target_table(groups: Sequence[Group]) -> Iterator[str]:
    """Units removed without harm, and accuracies after an epoch of training, with what was asked for."""
    yield "| figure | measured | target | met |"
    yield "|---|---|---|---|"
    for group in groups:
        wanted = LEAST_REMOVED.get((group.model, group.dataset))
        lost = group.dense.mean() - group.curves("own", PROGRAM).mean(axis=0)
        harmless = takewhile(lambda each: each[1] <= HARMLESS, zip(group.levels, lost, strict=True))
        most = max((level for level, _ in harmless), default=0.0)
        met = "-" if wanted is None else _word(most >= wanted - 1e-9)
        asked = "-" if wanted is None else f">= {wanted:.0%}"
        yield f"| units removed at a loss of at most {HARMLESS} points: {group.title} | {most:.0%} | {asked} | {met} |"
    for group in groups:
        for counting in COUNTINGS:
            for level in group.found[0][counting]["retrained"]:
                yield _retrained_row(group, counting, level)


def _retrained_row(group: Group, counting: str, level: str) -> str:
    lost = group.dense - group.retrained(counting, level, PROGRAM)
    (mean, error), most = _mean(lost), MOST_LOST_RETRAINED[group.dataset]
    best = max(OTHERS, key=lambda rule: group.retrained(counting, level, rule).mean())
    rival = (group.dense - group.retrained(counting, level, best)).mean()
    chance = (group.dense - group.retrained(counting, level, RANDOM)).mean()
    asked, met = (f"<= {most}", _word(mean <= most)) if level == "0.5" else ("-", "-")
    what = f"points lost after one epoch at {float(level):.0%}, {counting} counts: {group.title}"
    figures = f"{mean:.2f} ({error:.2f}); best rule `{best}` {rival:.2f}, `{RANDOM}` {chance:.2f}"
    return f"| {what} | {figures} | {asked} | {met} |"


def ablation_table(groups: Sequence[Group]) -> Iterator[str]:
    """Areas at uniform counts of each step of the method, and of simple rules under the same schedule."""
    names = list(groups[0].found[0]["ablation"])
    yield f"| area at uniform counts | {' | '.join(group.title for group in groups)} |"
    yield f"|{'---|' * (len(groups) + 1)}"
    for name in names:
        areas = (_mean(np.array([np.mean(each["ablation"][name]) for each in group.found])) for group in groups)
        yield f"| {name} | {' | '.join(f'{mean:.1f} ({error:.1f})' for mean, error in areas)} |"


def curve_figure(groups: Sequence[Group], counting: str) -> Figure:
    """One panel per network and data set: accuracy against units removed, means over the seeds with standard errors."""
    columns = min(len(groups), len(DATASETS))
    rows = -(-len(groups) // columns)
    figure = Figure(figsize=(5.2 * columns, 3.4 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, group in zip(panels, groups, strict=False):
        percent = 100 * np.array(group.levels)
        for rule in (*OTHERS, PROGRAM):
            found = group.curves(counting, rule)
            mean, style = found.mean(axis=0), {"color": COLOURS[rule]} if rule in COLOURS else {}
            width = 2.6 if rule == PROGRAM else 1.2
            (line,) = panel.plot(percent, mean, label=rule.replace("_", " "), linewidth=width, **style)
            if rule == PROGRAM and len(found) > 1:
                error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
                panel.fill_between(percent, mean - error, mean + error, color=line.get_color(), alpha=0.2)
        panel.axhline(group.dense.mean(), color="black", linewidth=0.8, linestyle=":")
        panel.set_title(group.title, loc="left", fontsize=10)
        panel.set(xlabel=f"units removed in %, {counting} counts", ylabel="test accuracy in %")
        panel.grid(alpha=0.25)
    for panel in panels[len(groups) :]:
        panel.remove()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=6, fontsize=8)
    return figure


def _mean(values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard error; of one value the error is not known and 0 is said."""
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return float(values.mean()), float(error)


def _word(met: bool) -> str:
    return "yes" if met else "**no**"
