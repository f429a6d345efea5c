"""Selection of units by the settings: over ranked units, within limits and a budget."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from torch import Tensor, nn

import formulation
import training
from flows.adapters.library_settings import limits_of, score_settings_of, swap_tries_of
from flows.config import Settings
from flows.errors import SettingsError
from training import Limits, Masks, Scores, Selection, Selector, UnitCosts

TERMS = {"parameters": "parameters", "multiply_adds": "multiply-adds", "latency": "measured latency"}
BY_SCORE = ("threshold", "layer_mean")
NOT_IN_STEPS = (*BY_SCORE, "program", "tolerance")


@dataclass(frozen=True, eq=False)
class StepPlan:
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


def account_of(settings: Settings, network: nn.Module, widths: dict[str, int], example: Tensor) -> UnitCosts | None:
    """The account of the settings' budget; None for other selections.

    `widths` are those of the layers with scores, `example` [n, ...] gives the shapes. Raises PruningError.
    """
    if settings.selection != "budget":
        return None
    layers = free_layers(settings, widths)
    if settings.budget_on == "latency":
        free = {layer: widths[layer] for layer in layers}
        return training.measured_costs(network, free, limits_of(settings), example, threads=settings.threads)
    return training.counted_costs(network, layers, widths, example, settings.budget_on)


def require_budget(settings: Settings, network: nn.Module, widths: dict[str, int], example: Tensor) -> None:
    """Raise before any work for a counted budget that no widths meet, and for a solver that cannot choose widths.

    What a network takes in seconds is not measured here.
    """
    layers = free_layers(settings, widths)
    select_within_budget(
        settings, UnitCosts(layers, ()), {layer: np.ones(widths[layer]) for layer in layers}, settings.budget
    )
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


def select_within_budget(
    settings: Settings, account: UnitCosts, values: Scores, budget: float, left: Masks | None = None
) -> Masks:
    """The most valuable units whose cost is at most this part of the whole network's; raises FormulationError.

    `left` are the units that are still there, all by default: no layer keeps more of them. Where one of them has a
    value below 0, all values are raised until none has: a unit may be worth little, but never less than the room it
    leaves.
    """
    offered = account if left is None else account.up_to(left)
    free = {layer: values[layer] for layer in account.layers}
    lowest = min(float(each[left[layer] if left else slice(None)].min()) for layer, each in free.items())
    limits = replace(limits_of(settings), leave_alone=())  # the account has no layer that is left alone
    solution = formulation.keep_within(
        {layer: each - min(lowest, 0.0) for layer, each in free.items()},
        offered.costs,
        budget,
        allowed=limits.allowed({layer: len(each) for layer, each in free.items()}),
        widths=offered.widths,
        layer_weight="network" if scores_compare(settings) else "units",
        solver=settings.solver,
        solver_options=score_settings_of(settings).solver_options,
        time_limit=settings.time_limit,
        threads=settings.threads,
    )
    return {layer: solution.masks.get(layer, np.ones(len(each), np.bool_)) for layer, each in values.items()}


def select(settings: Settings, scores: Scores, values: Scores, account: UnitCosts | None) -> Selection:
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
            return Selection(select_within_budget(settings, account, values, settings.budget), {})
        case "program":
            raise SettingsError(
                "selection=program chooses units from images, in the prune stage of schedule=one_shot alone; give "
                "another selection here"
            )
        case "tolerance":
            raise SettingsError(
                "selection=tolerance looks at the accuracy of pruned networks, which only a prune stage measures: give "
                "selection=share, quantile or budget here"
            )


def scores_compare(settings: Settings) -> bool:
    """Whether what ranks the units compares across layers: reduced costs of a program that counts all alike do.

    Else each layer counts alike.
    """
    return settings.rule == "program" and settings.layer_weight in ("network", "total")


def plan_of(settings: Settings, widths: dict[str, int], account: UnitCosts | None) -> StepPlan:
    """The steps of a schedule: the share, or what the budget takes away, grows evenly.

    Raises SettingsError for a selection that no step can take a part of, ScheduleError for shares out of range.
    """
    if settings.selection in NOT_IN_STEPS:
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
        return StepPlan(shares, partial(_by_share_of_units, rule, limits), shares)
    # A schedule counts units and a budget does not: the shares only say which step it is.
    units = sum(widths.values())
    last = min(1.0 - settings.budget, (units - len(widths)) / units)
    shares = training.even_shares(last, settings.steps)

    def remaining(share: float) -> float:
        # Rounded, so that the last step aims at the budget itself.
        return settings.budget + (1.0 - settings.budget) * (1.0 - round(share / last, 12))

    def within(scores: Scores, left: Masks, share: float) -> Masks:
        assert account is not None
        return select_within_budget(settings, account, scores, remaining(share), left)

    return StepPlan(shares, within, tuple(map(remaining, shares)))


def needs_importance(settings: Settings) -> bool:
    """Whether the selection reads the importance that a score run left, beside its scores."""
    ranked = settings.selection not in (*BY_SCORE, "program")
    return settings.rule == "program" and settings.schedule == "one_shot" and ranked


def choice_in_words(settings: Settings, *, gradual: bool = False) -> str:
    """What the settings remove, in a sentence's part; `gradual` always goes in steps."""
    aims = {
        "threshold": f"units with a score below {settings.threshold:g} removed",
        "layer_mean": "units below the mean score of their layer removed",
        "share": f"{100 * settings.share:g} % of each layer's units removed",
        "program": f"{100 * settings.share:g} % of each layer's units removed by the mask program",
        "quantile": f"{100 * settings.share:g} % of all units removed",
        "tolerance": f"as many units removed as cost at most {settings.tolerance:g} points of validation accuracy",
        "budget": f"units removed until {100 * settings.budget:g} % of the {TERMS[settings.budget_on]} remain",
    }
    parts = [aims[settings.selection]]
    if settings.rule != "program":
        # The rule `critical` turns the scores round: it reads them.
        instead = "" if settings.rule == "critical" else " instead of scores"
        parts.append(f"ranked by {settings.rule}{instead}")
    if gradual or settings.schedule == "iterative":
        parts.append(f"in {settings.steps} steps")
    if tries := swap_tries_of(settings):
        parts.append(f"up to {tries} swaps tried after each removal")
    return ", ".join(parts)


def _by_share_of_units(
    rule: Callable[[Scores, float, Limits], Selection], limits: Limits, scores: Scores, _: Masks, share: float
) -> Masks:
    return rule(scores, share, limits).masks
