"""The tables of `benchmarks.decoupled`, and their arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from flows.reporting.rank_correlation import spearman

EXACT = 1e-6  # relative gap of the best schedule
MOST_SECONDS, MOST_BYTES, LEAST_EFFICIENCY = 900.0, 8e9, 0.85
SIZE = (
    "network", "gate", "programs", "CPU seconds in all", "of it by the longest", "peak MB (after imports)",
    "certificates", "largest gap", "rounds", "columns", "target", "met",
)  # fmt: skip
HEADS = (
    "network, images, gate", "head units", "CPU seconds", "columns", "scores, mean (least)", "importance, mean (least)",
    "validation accuracy in %", "test accuracy in %",
)  # fmt: skip
AGREEMENT = (
    "network, images, gate", "scored", "CPU seconds", "peak MB (after imports)", "scores by layer",
    "importance by layer", "test accuracy in %",
)  # fmt: skip
DASK = (
    "network, gate", "programs", "longest", "one worker: sum", "first start to last end", "two workers",
    "best possible (lower bound)", "efficiency", "load before and after", "target", "met",
)  # fmt: skip


def head(names: Sequence[str]) -> str:
    """A table's first two lines."""
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def line(cells: Sequence[object]) -> str:
    """A table's line."""
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def word(met: bool) -> str:
    """Whether a target is met."""
    return "yes" if met else "**no**"


def size_row(title: str, gate: str, found: Mapping[str, Any], *, limits_memory: bool) -> str:
    """The line of a network scored by block; `limits_memory`: whether its peak memory has a target."""
    if not found:
        return line([title, f"`{gate}`", "failed", *[""] * (len(SIZE) - 4), word(False)])
    programs = found["programs"]
    longest = max(programs, key=lambda each: each["cpu"])
    met = all(each["status"] == "optimal" and each["checked"] for each in programs)
    met = met and found["cpu"] <= MOST_SECONDS and (found["peak"] <= MOST_BYTES or not limits_memory)
    limit = f"<= {MOST_SECONDS:.0f} CPU s" + (f", <= {MOST_BYTES / 1e9:.0f} GB" if limits_memory else "")
    cells = [
        title, f"`{gate}`", len(programs), f"{found['cpu']:.0f}", f"{longest['cpu']:.0f} ({longest['block']})",
        memory(found), statuses(programs), f"{max(each['gap'] for each in programs):.1e}",
        f"{sum(each['rounds'] for each in programs)}", columns(programs),
        f"{limit}, all optimal and checked", word(met),
    ]  # fmt: skip
    return line(cells)


def memory(found: Mapping[str, Any]) -> str:
    """The largest memory of a process, and what it had taken after imports, in MB."""
    return f"{found['peak'] / 1e6:.0f} ({found['baseline'] / 1e6:.0f})"


def statuses(programs: Sequence[Mapping[str, Any]]) -> str:
    """How many certificates have which status, and how many are not checked."""
    found = [each["status"] for each in programs]
    unchecked = sum(not each["checked"] for each in programs)
    counted = [f"{found.count(status)} {status}" for status in sorted(set(found))]
    return ", ".join([*counted, f"{unchecked} unchecked" if unchecked else "all checked"])


def columns(programs: Sequence[Mapping[str, Any]]) -> str:
    """The columns of all programs, and of the one that has most."""
    each = [program["columns"] for program in programs]
    return f"{sum(each)} (at most {max(each)})"


def correlations(one: Mapping[str, Sequence[float]], other: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Spearman's correlation of each layer's values; NaN where either orders no units."""
    return {
        layer: float(spearman(np.atleast_2d(values), np.atleast_2d(np.asarray(other[layer])))[0, 0])
        for layer, values in ((name, np.asarray(each, dtype=np.float64)) for name, each in one.items())
    }


def in_short(found: Mapping[str, float]) -> str:
    """The mean over layers and the least with its layer; how many layers order no units."""
    sound = {layer: value for layer, value in found.items() if not np.isnan(value)}
    if not sound:
        return "-"
    least = min(sound, key=sound.__getitem__)
    unordered = f"; {len(found) - len(sound)} without order" if len(sound) < len(found) else ""
    return f"{fmean(sound.values()):.2f} ({least} {sound[least]:.2f}{unordered})"


def by_layer(found: Mapping[str, float]) -> str:
    """Each layer's value."""
    return ", ".join(f"{layer} {'-' if np.isnan(value) else f'{value:.2f}'}" for layer, value in found.items())


def best_schedule(seconds: Sequence[float], workers: int) -> float:
    """The least time in which so many workers can do programs of these lengths, each on one worker.

        minimise T  with  sum_j seconds_j x_jw <= T  for every worker w,  sum_w x_jw = 1  for every program j,  x binary

    Exact but for a relative gap of `EXACT`; solved by HiGHS.
    """
    jobs = len(seconds)
    if not jobs:
        return 0.0
    each_once = np.hstack([np.kron(np.eye(jobs), np.ones((1, workers))), np.zeros((jobs, 1))])
    loads = np.hstack([np.kron(np.atleast_2d(seconds), np.eye(workers)), -np.ones((workers, 1))])
    constraints = [LinearConstraint(each_once, 1, 1), LinearConstraint(loads, -np.inf, 0)]
    objective = np.append(np.zeros(jobs * workers), 1.0)
    upper = np.append(np.ones(jobs * workers), np.inf)
    upper[1:workers] = 0.0  # the first program goes to the first worker: all workers are alike
    found = milp(
        objective,
        constraints=constraints,
        integrality=np.append(np.ones(jobs * workers), 0),
        bounds=Bounds(np.append(np.zeros(jobs * workers), lower_bound(seconds, workers)), upper),
        options={"mip_rel_gap": EXACT},
    )
    if found.x is None:
        raise ArithmeticError(f"no schedule of {jobs} programs on {workers} workers was found: {found.message}")
    return float(found.fun)


def lower_bound(seconds: Sequence[float], workers: int) -> float:
    """No schedule takes less than this."""
    return max(sum(seconds) / workers, max(seconds))


def dask_row(title: str, one: Mapping[str, Any], two: Mapping[str, Any], workers: int) -> str:
    """The line of the same programs on one worker and on several; each has `seconds` and `wall`, and `load`."""
    seconds = one["seconds"]
    best, least = best_schedule(seconds, workers), lower_bound(seconds, workers)
    efficiency = best / two["wall"]
    cells = [
        title, len(seconds), f"{max(seconds):.1f} s", f"{sum(seconds):.1f} s", f"{one['wall']:.1f} s",
        f"{two['wall']:.1f} s", f"{best:.1f} s ({least:.1f} s)", f"{100 * efficiency:.1f} %",
        f"{one['load']}; {two['load']}", f">= {100 * LEAST_EFFICIENCY:.0f} %", word(efficiency >= LEAST_EFFICIENCY),
    ]  # fmt: skip
    return line(cells)


def printed(names: Sequence[str], rows: Iterator[str]) -> Iterator[str]:
    """A table's lines, the first ones when there is a row."""
    for number, row in enumerate(rows):
        yield f"{head(names)}\n{row}" if number == 0 else row
