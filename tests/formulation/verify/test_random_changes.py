"""Random changes of the numbers of a stored solution: refused, or nothing that is claimed changes with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from formulation import CheckFailed, FormulationError, Solution
from tests.formulation.verify.solved import checked

# What a random change of a number may break: figures beyond their tolerance are refused, or nothing that is claimed
# of the scores changes with them.
FIGURES = ("objective", "bound", "gap", "cross_entropy", "sparsity", "relaxation", "proved_bound", "largest_residual")
COUNTS = ("rounds", "images", "columns", "unstable")


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("kind", ["relaxed", "pattern", "integer", "whole scores"])
def test_a_random_change_of_any_number_is_refused_or_changes_no_claim(
    kind: str, seed: int, solutions: dict[str, Solution]
) -> None:
    rng, solution = np.random.default_rng(seed), solutions[kind]
    before = checked(solution)
    altered, part = randomly_altered(solution, rng)
    try:
        after = checked(altered)
    except (CheckFailed, FormulationError):
        return
    assert part in ("arrays", "seconds", "cuts", "relaxed_change"), f"{part} was altered and nobody saw it"
    if part == "arrays":
        assert after.objective == pytest.approx(before.objective, abs=1e-6)
        assert after.proved_bound == pytest.approx(before.proved_bound, abs=1e-7)
        assert after.gap == pytest.approx(before.gap, abs=1e-7)


def randomly_altered(solution: Solution, rng: np.random.Generator) -> tuple[Solution, str]:
    """One number somewhere in the solution moved by a random amount of a random magnitude."""
    by = float(rng.choice([-1.0, 1.0]) * 10.0 ** rng.uniform(-6.0, 3.0))
    where = rng.integers(5)
    certificate = solution.certificate
    if where == 0:
        name = str(rng.choice([f for f in (*FIGURES, "seconds") if getattr(certificate, f) is not None]))
        return replace(solution, certificate=moved(certificate, name, by)), name
    if where == 1:
        name = str(rng.choice([*COUNTS, "cuts"]))
        return replace(solution, certificate=moved(certificate, name, int(np.ceil(abs(by))))), name
    if where == 2:
        place = int(rng.integers(len(solution.rounds)))
        name = str(rng.choice(["bound", "objective", "gap", "index"]))
        step: float = int(np.ceil(abs(by))) if name == "index" else by
        rounds = list(solution.rounds)
        rounds[place] = moved(rounds[place], name, step)
        return replace(solution, rounds=tuple(rounds)), f"round's {name}"
    arrays = numeric_arrays(solution)
    name = str(rng.choice(list(arrays)))
    values, put = arrays[name]
    batch = "reduced costs" if name.startswith("reduced costs") else "arrays"
    return put(jogged(values, by, rng)), batch


def numeric_arrays(solution: Solution) -> dict[str, tuple[np.ndarray, Callable[[np.ndarray], Solution]]]:
    """Every array of a solution by a name, and how to put another in its place."""
    found: dict[str, tuple[np.ndarray, Callable[[np.ndarray], Solution]]] = {}
    for what in ("scores", "reduced_costs"):
        for layer, values in getattr(solution, what).items():
            found[f"{what.replace('_', ' ')} of {layer}"] = (
                values,
                lambda new, what=what, layer=layer: replace(
                    solution, **{what: {**getattr(solution, what), layer: new}}
                ),
            )
    for node, stored in solution.unstable.items():
        for what in ("value", "phase"):
            found[f"{what} of {node}"] = (
                getattr(stored, what),
                lambda new, what=what, node=node, stored=stored: replace(
                    solution, unstable={**solution.unstable, node: replace(stored, **{what: new})}
                ),
            )
    dual_bound = solution.dual_bound
    assert dual_bound is not None
    for what in ("probabilities", "layers", "cut_duals"):
        found[what] = (
            getattr(dual_bound, what),
            lambda new, what=what: replace(solution, dual_bound=replace(dual_bound, **{what: new})),
        )
    for name, values in dual_bound.unstable.items():
        found[name] = (
            values,
            lambda new, name=name: replace(
                solution, dual_bound=replace(dual_bound, unstable={**dual_bound.unstable, name: new})
            ),
        )
    return {name: pair for name, pair in found.items() if pair[0].size}


def moved(value: Any, name: str, by: float) -> Any:
    return replace(value, **{name: getattr(value, name) + by})


def jogged(values: np.ndarray, by: float, rng: np.random.Generator) -> np.ndarray:
    other = np.array(values)
    other.flat[int(rng.integers(other.size))] += by
    return other
