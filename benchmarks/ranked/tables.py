"""Tables of the ranking benchmark, from what its cells found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.ranked.measuring import CHOICE, RECALIBRATED, REFITTED, STEPS
from benchmarks.ranked.rules import FISHER, PROGRAM, SIMPLE

MODELS = {
    "fc3": "FC-3",
    "fc4": "FC-4",
    "lenet5": "LeNet-5",
    "vgg16@0.25": "vgg16@0.25",
    "resnet20": "resnet20",
}
DATASETS = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}
OURS = (PROGRAM, STEPS, FISHER, CHOICE)
AREA = (0.1, 0.8)  # levels whose mean is an area
MARGIN, MARGIN_AT_80, MOST_BELOW = 0.3, 1.0, 0.2  # asked of the choice, in points

Found = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Group:
    """A network on a data set in one way of counting: what each training seed's cell found."""

    model: str
    dataset: str
    counting: str
    found: tuple[Found, ...]

    @property
    def title(self) -> str:
        """Network and data."""
        return f"{MODELS[self.model]}, {DATASETS[self.dataset]}"

    @property
    def levels(self) -> tuple[str, ...]:
        """As the cells name them."""
        return tuple(self.found[0]["levels"])

    @property
    def rules(self) -> tuple[str, ...]:
        """Those measured, the simple ones first."""
        there = self.found[0]["levels"][self.levels[0]]["rules"]
        return tuple(rule for rule in (*SIMPLE, *OURS) if rule in there)

    @property
    def dense(self) -> float:
        """Test accuracy in %."""
        return float(np.mean([each["dense"] for each in self.found]))

    def curve(self, rule: str, mode: str) -> NDArray[np.float64]:
        """Test accuracies in % [seeds, levels]; NaN where a mode was not measured."""
        levels = [[each["levels"][level] for level in self.levels] for each in self.found]
        return np.array([[level["rules"][rule].get(mode, np.nan) for level in seed] for seed in levels])

    def trained(self, rule: str) -> dict[str, float]:
        """Test accuracy in % after refit and an epoch of training, by the levels where that was measured."""
        found: dict[str, list[float]] = {}
        for each in self.found:
            for level, by_rule in each.get("trained", {}).items():
                if rule in by_rule:
                    found.setdefault(level, []).append(by_rule[rule])
        return {level: float(np.mean(values)) for level, values in found.items()}

    def area(self, rule: str, mode: str) -> tuple[float, float]:
        """The mean over 10 to 80 %: its mean over the seeds, and its standard error."""
        counted = [AREA[0] - 1e-9 <= float(level) <= AREA[1] + 1e-9 for level in self.levels]
        return mean_of(self.curve(rule, mode)[:, counted].mean(axis=1))

    def lead(self) -> NDArray[np.float64]:
        """By how many points the choice is above the best simple rule, after refit, by level."""
        best = np.max([self.curve(rule, REFITTED).mean(axis=0) for rule in SIMPLE], axis=0)
        ahead: NDArray[np.float64] = self.curve(CHOICE, REFITTED).mean(axis=0) - best
        return ahead


def mean_of(values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard error; of one value the error is not known and 0 is said."""
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return float(values.mean()), float(error)


def area_table(groups: Sequence[Group], mode: str) -> Iterator[str]:
    """Areas with their standard errors in one mode; the best of all in bold."""
    kept = [group for group in groups if mode != RECALIBRATED or not np.isnan(group.curve(CHOICE, mode)).any()]
    yield f"| network, data (dense) | counts | {' | '.join(f'`{rule}`' for rule in (*SIMPLE, *OURS))} |"
    yield f"|{'---|' * (len(SIMPLE) + len(OURS) + 2)}"
    for group in kept:
        areas = {rule: group.area(rule, mode) for rule in group.rules}
        best = max(areas, key=lambda rule: areas[rule][0])
        words = {rule: f"{mean:.2f}" + (f" ({error:.2f})" if error else "") for rule, (mean, error) in areas.items()}
        words[best] = f"**{words[best]}**"
        row = " | ".join(words.get(rule, "-") for rule in (*SIMPLE, *OURS))
        yield f"| {group.title} ({group.dense:.2f}) | {group.counting} | {row} |"


def lead_table(groups: Sequence[Group]) -> Iterator[str]:
    """The choice after refit / the best simple rule at that level, and whether what is asked of the lead holds."""
    levels = groups[0].levels
    yield f"| network, data | counts | {' | '.join(f'{float(level):.0%}' for level in levels)} | area | worst | holds |"
    yield f"|{'---|' * (len(levels) + 5)}"
    for group in groups:
        ours, lead = group.curve(CHOICE, REFITTED).mean(axis=0), group.lead()
        at = {level: f"{a:.2f} / {a - by:.2f}" for level, a, by in zip(group.levels, ours, lead, strict=True)}
        best = max(group.area(rule, REFITTED)[0] for rule in SIMPLE)
        ahead, worst = group.area(CHOICE, REFITTED)[0] - best, float(lead.min())
        holds = "yes" if ahead > 0 and worst >= -MOST_BELOW else "**no**"
        cells = " | ".join(at.get(level, "-") for level in levels)
        yield f"| {group.title} | {group.counting} | {cells} | {ahead:+.2f} | {worst:+.2f} | {holds} |"
    yield from ("", *_means(groups))


def _means(groups: Sequence[Group]) -> Iterator[str]:
    areas = [group.area(CHOICE, REFITTED)[0] - max(group.area(r, REFITTED)[0] for r in SIMPLE) for group in groups]
    at_80 = [float(group.lead()[group.levels.index("0.8")]) for group in groups if "0.8" in group.levels]
    for what, values, asked in (("area", areas, MARGIN), ("accuracy at 80 %", at_80, MARGIN_AT_80)):
        if values:
            won = sum(value > 0 for value in values)
            met = "met" if np.mean(values) >= asked else "**missed**"
            yield (
                f"- {what}: {np.mean(values):+.2f} points in the mean over {len(values)} cells (asked: {asked:+.1f}, "
                f"{met}), ahead in {won}."
            )


def trained_table(groups: Sequence[Group]) -> Iterator[str]:
    """Test accuracy after refit and one epoch of training, at the levels where it was measured."""
    rules = [rule for rule in (*SIMPLE, *OURS) if any(group.trained(rule) for group in groups)]
    yield f"| network, data (dense) | counts | removed | {' | '.join(f'`{rule}`' for rule in rules)} |"
    yield f"|{'---|' * (len(rules) + 3)}"
    for group in groups:
        at = {rule: group.trained(rule) for rule in rules}
        for level in next(iter(at.values()), {}):
            row = " | ".join(f"{at[rule][level]:.2f}" for rule in rules)
            yield f"| {group.title} ({group.dense:.2f}) | {group.counting} | {float(level):.0%} | {row} |"


def part_table(groups: Sequence[Group]) -> Iterator[str]:
    """Areas after refit, at uniform counts, of what the choice is made of, and of swaps from simple rules."""
    uniform = [group for group in groups if group.counting == "uniform"]
    if not uniform:
        return
    parts = list(dict.fromkeys(part for group in uniform for part in _parts(group, group.levels[0])))
    yield f"| area after refit, uniform counts | {' | '.join(group.title for group in uniform)} |"
    yield f"|{'---|' * (len(uniform) + 1)}"
    for rule in ("l2_norm", "structured_obs", PROGRAM, STEPS, FISHER):
        row = (f"{group.area(rule, REFITTED)[0]:.2f}" if rule in group.rules else "-" for group in uniform)
        yield f"| `{rule}` | {' | '.join(row)} |"
    for part in parts:
        yield f"| {part} | {' | '.join(_part_area(group, part) for group in uniform)} |"
    yield f"| and crossings: the choice | {' | '.join(f'{g.area(CHOICE, REFITTED)[0]:.2f}' for g in uniform)} |"


def _parts(group: Group, level: str) -> dict[str, float]:
    return dict(group.found[0]["levels"][level]["parts"])


def _part_area(group: Group, part: str) -> str:
    counted = [level for level in group.levels if AREA[0] - 1e-9 <= float(level) <= AREA[1] + 1e-9]
    values = [each["levels"][level]["parts"].get(part, np.nan) for each in group.found for level in counted]
    return "-" if np.isnan(values).any() else f"{np.mean(values):.2f}"


def seconds_table(groups: Sequence[Group]) -> Iterator[str]:
    """CPU seconds: of a ranking, of a step of the mask program, and of the choice at a level."""
    names = (*SIMPLE, FISHER, PROGRAM, "readings")
    yield f"| network, data | counts | {' | '.join(f'`{name}`' for name in names)} | `{STEPS}`, a step | `{CHOICE}` |"
    yield f"|{'---|' * (len(names) + 4)}"
    for group in groups:
        measured = {name: [each["seconds"].get(name, np.nan) for each in group.found] for name in names}
        row = " | ".join("-" if np.isnan(values).any() else f"{np.mean(values):.1f}" for values in measured.values())
        levels = [each["levels"][level] for each in group.found for level in group.levels]
        stepped = [level["program"]["seconds"] for level in levels if "program" in level]
        chosen = np.mean([level["choice"]["seconds"] for level in levels])
        step = f"{np.mean(stepped):.1f}" if stepped else "-"
        yield f"| {group.title} | {group.counting} | {row} | {step} | {chosen:.1f} |"
