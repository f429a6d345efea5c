"""The public verbs for one mask of several data sets: a shared body, an output layer each, the mean or worst loss."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import ArrayLike

from formulation.deadline import NEVER, Deadline
from formulation.errors import FormulationError, InvalidModel, InvalidSetting, InvalidSolution
from formulation.masks.budgets import MaskBudget, require_feasible, require_layers
from formulation.masks.checks import (
    MaskVerdict,
    first_order,
    proved_settings,
    require_solution,
    stacked,
    verify_problem,
)
from formulation.masks.inner_problem.joint_problem import JointProblem, Over
from formulation.masks.mask_choice import MaskProgress, solve_masks
from formulation.masks.mask_inputs import read_classes, read_mask, read_starts, require_kinds
from formulation.masks.mask_solution import MaskSettings, MaskSolution
from formulation.network import Array, Index, Network
from formulation.scoring_data import images_digest
from formulation.solve import import_linopy
from formulation.solve.solvers import require_solvable


@dataclass(frozen=True, eq=False)
class MaskData:
    """One of the data sets that share a mask.

    Attributes:
        name: of the data set; no two have the same.
        model: the network for it, as for `choose_mask`: the shared body and this data set's output layer.
        images, labels: its scoring set, as for `choose_mask`.
        weight: what its objective counts for beside those of the others, > 0; the largest stands for 1. The reciprocal
            of the objective of its own best mask puts data sets of unequal difficulty on one scale.
    """

    name: str
    model: Any
    images: Any
    labels: Any
    weight: float = 1.0


def choose_joint_mask(
    data_sets: Sequence[MaskData],
    budget: MaskBudget,
    settings: MaskSettings,
    *,
    over: Over = "worst",
    mask: Mapping[str, ArrayLike] | None = None,
    starts: Sequence[Mapping[str, ArrayLike]] = (),
    held: Sequence[str] = (),
    progress: MaskProgress | None = None,
) -> MaskSolution:
    """The units to keep for several data sets at once, with a proof of how much better any others could be.

    With F_k(s) the objective of the mask program on data set k, whose surviving weights change as is best for it, and
    w_k its weight, divided by the largest, the program minimises over one s for all

        sum_k w_k F_k(s) / n        or        max_k w_k F_k(s)

    by the cuts of each data set (`joint_problem` has the mathematics). With one data set it is `choose_mask`.

    Args:
        data_sets: with networks of the same layers and widths. Their output layers, classes and images may
            differ, and their weights too.
        budget, settings, mask, starts, held, progress: as for `choose_mask`.
        over: `mean` or `worst`.

    Returns:
        Masks for every scored layer, with the changes of each data set's weights by `<data set>/<layer>`, the
        certificate and the proof, which `check_joint_mask` checks.

    Raises:
        InvalidSetting: no data set, names that are not clear, a weight out of range, or another `over`.
        InvalidModel: networks whose layers or widths differ.
        Everything that `choose_mask` raises, with the data set's name.

    Departs from the paper: it has a program for one data set.
    """
    import_linopy()
    started = time.perf_counter()
    require_kinds(budget, settings)
    _require_data_sets(data_sets, over)
    deadline = Deadline.after(settings.time_limit)
    require_solvable(settings.for_solver())
    read = _read(data_sets, settings, held, deadline)
    _require_alike(data_sets, read)
    network = read[0].network
    require_layers(network, budget)
    base = np.ones(network.score_count) if mask is None else read_mask(network, mask)
    smallest = require_feasible(network, budget, base)
    problem = _problem(data_sets, read, base, settings, over, deadline)
    begun = read_starts(network, starts)
    hashes = _hashes(data_sets, read)
    solution = solve_masks(problem, budget, settings, begun, smallest, deadline, progress, hashes)
    verify_problem(_problem(data_sets, read, base, settings, over), solution)
    certificate = replace(solution.certificate, checked=True, seconds=time.perf_counter() - started)
    return replace(solution, certificate=certificate)


def check_joint_mask(data_sets: Sequence[MaskData], solution: MaskSolution) -> MaskVerdict:
    """Check a mask for several data sets against the networks and images that it claims to be about.

    For the worst loss the proof's shares of the data sets may be any: the bound is of their convex combination.

    Args:
        data_sets: as `choose_joint_mask` was given them.
        solution: what `choose_joint_mask` or `MaskSolution.load` returned.

    Raises:
        InvalidSolution: no solution, other data sets than the certificate names, or values of the wrong form.
        CheckFailed: the mask passes its budget, or the certificate says something that is not so.
    """
    require_solution(solution)
    claimed, settings = solution.certificate, proved_settings(solution)
    over = claimed.over
    if over == "":
        raise InvalidSolution("the mask was chosen for one data set; check it with check_mask")
    _require_data_sets(data_sets, over)
    read = [_held(each, solution.masks) for each in _read(data_sets, settings, (), NEVER)]
    _require_alike(data_sets, read)
    models, images = _hashes(data_sets, read)
    if claimed.model_hash != models:
        raise InvalidSolution("the mask is of other networks than its certificate names (model_hash differs)")
    if claimed.images_hash != images:
        raise InvalidSolution(
            "the mask is of other names, weights, images or labels of data sets, or in another order, than its "
            "certificate names (images_hash differs)"
        )
    base = stacked(read[0].network, solution.base)
    return verify_problem(_problem(data_sets, read, base, settings, over), solution)


@dataclass(frozen=True, eq=False)
class _Read:
    """A data set's lowered network, pixels [inputs, images] and labels [images]."""

    network: Network
    pixels: Array
    labels: Index


def _require_data_sets(data_sets: Sequence[MaskData], over: Any) -> None:
    if over not in get_args(Over):
        raise InvalidSetting(f"over={over!r} is unknown; use one of {', '.join(get_args(Over))}")
    listed = isinstance(data_sets, Sequence) and all(isinstance(each, MaskData) for each in data_sets)
    if not listed or not data_sets:
        raise InvalidSetting("data_sets is no sequence of data sets; give [MaskData(name, model, images, labels), ...]")
    names = [each.name for each in data_sets]
    for each in data_sets:
        name, weight = each.name, cast(Any, each.weight)
        if not isinstance(name, str) or not name or "/" in name or names.count(name) > 1:
            raise InvalidSetting(f"the data set's name {name!r} is empty, holds '/', or is there twice; give another")
        number = isinstance(weight, Real) and not isinstance(weight, bool)
        if not number or not 0 < weight < math.inf:
            raise InvalidSetting(f"weight={weight!r} of data set '{name}' is out of range; it must be greater than 0")


def _read(
    data_sets: Sequence[MaskData], settings: MaskSettings, held: Sequence[str], deadline: Deadline
) -> list[_Read]:
    made: list[_Read] = []
    for each in data_sets:
        try:
            made.append(_Read(*read_classes(each.model, each.images, each.labels, settings, held, deadline)))
        except FormulationError as error:
            raise type(error)(f"data set '{each.name}': {error}") from error
    return made


def _held(read: _Read, masks: Mapping[str, Any]) -> _Read:
    """A data set whose layers without a mask are held, unless none has one."""
    layers = list(read.network.units)
    gone = [layer for layer in layers if layer not in masks]
    return replace(read, network=read.network.holding(gone)) if 0 < len(gone) < len(layers) else read


def _require_alike(data_sets: Sequence[MaskData], read: Sequence[_Read]) -> None:
    first = read[0].network.units
    for given, each in zip(data_sets, read, strict=True):
        own = each.network.units
        if first != own or list(first) != list(own):
            raise InvalidModel(
                f"data set '{given.name}' has layers of {dict(own)} units, '{data_sets[0].name}' of {dict(first)}; "
                "one mask needs networks of the same layers and widths"
            )


def _problem(
    data_sets: Sequence[MaskData],
    read: Sequence[_Read],
    base: Array,
    settings: MaskSettings,
    over: Over,
    deadline: Deadline = NEVER,
) -> JointProblem:
    problems = tuple(first_order(each.network, each.pixels, each.labels, base, settings, deadline) for each in read)
    weights = np.array([each.weight for each in data_sets], dtype=float)
    return JointProblem(tuple(each.name for each in data_sets), problems, weights / weights.max(), over)


def _hashes(data_sets: Sequence[MaskData], read: Sequence[_Read]) -> tuple[str, str]:
    """Of all networks, and of all names, weights, images and labels, in order."""
    models = [each.network.digest() for each in read]
    images = [
        f"{given.name}/{float(given.weight)!r}/{images_digest(each.pixels, each.labels)}"
        for given, each in zip(data_sets, read, strict=True)
    ]
    return _digest(models), _digest(images)


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
