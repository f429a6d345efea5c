"""What goes: the settings' selection over ranked units, within their limits and their budget."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor, nn

import formulation
import training
from flows.accounts import Account
from flows.errors import SettingsError
from flows.settings import Settings
from flows.translation import limits_of, score_settings_of, tries_of
from training import Limits, Masks, Scores, Selection, Selector

GRID = 8  # widths of a layer that latency is measured at
TERMS = {"parameters": "parameters", "multiply_adds": "multiply-adds", "latency": "measured latency"}
BY_SCORE = ("threshold", "layer_mean")


@dataclass(frozen=True, eq=False)
class Plan:
    """The shares of a schedule, how its steps select, and what each step aims at in the words of the selection."""

    shares: tuple[float, ...]
    selector: Selector
    targets: tuple[float, ...]


def free_layers(settings: Settings, widths: dict[str, int]) -> tuple[str, ...]:
    """The layers that may lose units, of those with these widths.

    Raises SelectionError where the limits do not fit the layers, SettingsError where all are left alone.
    """
    found = tuple(limits_of(settings).floors(widths))
    if not found:
        raise SettingsError(f"leave_alone={settings.leave_alone} leaves no layer to prune: name fewer")
    return found


def account_of(settings: Settings, network: nn.Module, widths: dict[str, int], example: Tensor) -> Account | None:
    """The account of the settings' budget; None for other selections.

    `widths` are those of the layers with scores, `example` [n, ...] gives the shapes. Raises PruningError.
    """
    if settings.selection != "budget":
        return None
    layers = free_layers(settings, widths)
    if settings.budget_on == "latency":
        return _measured(settings, network, {layer: widths[layer] for layer in layers}, example)
    terms = training.cost_terms(network, layers, example, settings.budget_on)
    whole = sum(
        cost * widths.get(producer or "", 1) * widths.get(consumer or "", 1) for producer, consumer, cost in terms
    )
    return Account(layers, tuple((producer, consumer, cost / whole) for producer, consumer, cost in terms))


def require_budget(settings: Settings, network: nn.Module, widths: dict[str, int], example: Tensor) -> None:
    """Raise before any work for a counted budget that no widths meet, and for a solver that cannot choose widths.

    What a network takes in seconds is not measured here.
    """
    layers = free_layers(settings, widths)
    keep_within(settings, Account(layers, ()), {layer: np.ones(widths[layer]) for layer in layers}, settings.budget)
    account = None if settings.budget_on == "latency" else account_of(settings, network, widths, example)
    if account is None:
        return
    limits = limits_of(settings)
    narrowest = {layer: limits.widened(settings.floor, widths[layer]) for layer in layers}
    # Counts never fall with a width.
    least = sum(
        float(cost) * narrowest.get(producer or "", 1) * narrowest.get(consumer or "", 1)
        for producer, consumer, cost in account.costs
    )
    if least > settings.budget:
        kept = ", ".join(f"{layer}: {width}" for layer, width in narrowest.items())
        nearest = math.ceil(1e6 * least) / 1e6  # rounded up: as it is written, it can be met
        raise SettingsError(
            f"budget={settings.budget:g} of the {TERMS[settings.budget_on]} cannot be met; the nearest that can is "
            f"{nearest:g}, at the widths {kept}; give that much, or lower floor, round_to or leave_alone"
        )


def keep_within(
    settings: Settings, account: Account, values: Scores, budget: float, left: Masks | None = None
) -> Masks:
    """The most valuable units whose cost is at most this part of the whole network's; raises FormulationError.

    `left` are the units that are still there, all by default: no layer keeps more of them. Where one of them has a
    value below 0, all values are raised until none has: a unit may be worth little, but never less than the room it
    leaves.
    """
    offered = account if left is None else account.up_to(left)
    free = {layer: values[layer] for layer in account.layers}
    lowest = min(float(each[left[layer] if left else slice(None)].min()) for layer, each in free.items())
    # Prices of a program that counts all units alike compare across layers; else each layer counts alike.
    together = settings.rule == "program" and settings.layer_weight in ("network", "total")
    solution = formulation.keep_within(
        {layer: each - min(lowest, 0.0) for layer, each in free.items()},
        offered.costs,
        budget,
        floor=settings.floor,
        round_to=settings.round_to,
        widths=offered.widths,
        layer_weight="network" if together else "units",
        solver=settings.solver,
        solver_options=score_settings_of(settings).solver_options,
        time_limit=settings.time_limit,
        threads=settings.threads,
    )
    return {layer: solution.masks.get(layer, np.ones(len(each), np.bool_)) for layer, each in values.items()}


def select(settings: Settings, scores: Scores, values: Scores, account: Account | None) -> Selection:
    """The selection at once: threshold and layer_mean look at scores, all others at the values that rank the units."""
    limits = limits_of(settings)
    match settings.selection:
        case "threshold":
            return training.by_threshold(scores, settings.threshold, limits)
        case "layer_mean":
            return training.by_layer_mean(scores, limits=limits)
        case "share":
            return training.by_share(values, settings.share, limits)
        case "quantile":
            return training.by_quantile(values, settings.share, limits)
        case "budget":
            assert account is not None
            return Selection(keep_within(settings, account, values, settings.budget), {})


def plan_of(settings: Settings, widths: dict[str, int], account: Account | None) -> Plan:
    """The steps of a schedule: the share, or what the budget takes away, grows evenly.

    Raises SettingsError for a selection that no step can take a part of, ScheduleError for shares out of range.
    """
    if settings.selection in BY_SCORE:
        raise SettingsError(
            f"selection={settings.selection} cannot be taken in steps: give selection=share, quantile or budget, or "
            f"schedule=one_shot"
        )
    limits = limits_of(settings)
    if settings.selection != "budget":
        if not settings.share:
            raise SettingsError("share=0 leaves nothing to remove in steps: give a share above 0 and below 1")
        shares = training.even_shares(settings.share, settings.steps)
        rule = training.by_share if settings.selection == "share" else training.by_quantile
        return Plan(shares, partial(_by_share_of_units, rule, limits), shares)
    # A schedule counts units and a budget does not: the shares only say which step it is.
    units = sum(widths.values())
    last = min(1.0 - settings.budget, (units - len(widths)) / units)
    shares = training.even_shares(last, settings.steps)

    def remaining(share: float) -> float:
        # Rounded, so that the last step aims at the budget itself.
        return settings.budget + (1.0 - settings.budget) * (1.0 - round(share / last, 12))

    def within(scores: Scores, left: Masks, share: float) -> Masks:
        assert account is not None
        return keep_within(settings, account, scores, remaining(share), left)

    return Plan(shares, within, tuple(map(remaining, shares)))


def needs_importance(settings: Settings) -> bool:
    """Whether the selection reads the importance that a score run left, beside its scores."""
    return settings.rule == "program" and settings.schedule == "one_shot" and settings.selection not in BY_SCORE


def choice_in_words(settings: Settings, *, gradual: bool = False) -> str:
    """What the settings remove, in a sentence's part; `gradual` always goes in steps."""
    aims = {
        "threshold": f"units with a score below {settings.threshold:g} removed",
        "layer_mean": "units below the mean score of their layer removed",
        "share": f"{100 * settings.share:g} % of each layer's units removed",
        "quantile": f"{100 * settings.share:g} % of all units removed",
        "budget": f"units removed until {100 * settings.budget:g} % of the {TERMS[settings.budget_on]} remain",
    }
    parts = [aims[settings.selection]]
    if settings.rule != "program":
        parts.append(f"ranked by {settings.rule}")
    if gradual or settings.schedule == "iterative":
        parts.append(f"in {settings.steps} steps")
    if tries := tries_of(settings):
        parts.append(f"up to {tries} exchanges tried after each removal")
    return ", ".join(parts)


def _by_share_of_units(
    rule: Callable[[Scores, float, Limits], Selection], limits: Limits, scores: Scores, _: Masks, share: float
) -> Masks:
    return rule(scores, share, limits).masks


def _measured(settings: Settings, network: nn.Module, widths: dict[str, int], example: Tensor) -> Account:
    """Latencies at a few of the widths that the limits allow, in parts of the whole network's."""
    limits = limits_of(settings)
    grids = {layer: _grid(limits, units) for layer, units in widths.items()}
    tables = training.layer_latencies(network, example, grids, threads=settings.threads)
    whole = training.estimated_seconds(tables, {layer: len(grid) - 1 for layer, grid in grids.items()})
    rows = [
        (table.layer or "between layers", table.producer, table.consumer, kept_p, kept_c, float(table.seconds[i, j]))
        for table in tables
        for i, kept_p in enumerate(grids.get(table.producer or "", [None]))
        for j, kept_c in enumerate(grids.get(table.consumer or "", [None]))
    ]
    names = ("layer", "producer", "consumer", "producer_keeps", "consumer_keeps", "seconds")
    costs = tuple((table.producer, table.consumer, table.seconds / whole) for table in tables)
    return Account(tuple(widths), costs, grids, {name: [row[at] for row in rows] for at, name in enumerate(names)})


def _grid(limits: Limits, units: int) -> list[int]:
    floor = limits.floor
    assert isinstance(floor, int)
    allowed = sorted({limits.widened(width, units) for width in range(floor, units + 1)})
    places = np.linspace(0, len(allowed) - 1, min(GRID, len(allowed))).round().astype(int)
    return [allowed[place] for place in places]
