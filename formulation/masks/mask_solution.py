"""Settings of a mask program, and its answer: masks with a certificate and the proof behind it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from formulation.errors import InvalidSetting, InvalidSolution
from formulation.masks.budgets import Branch, MaskBudget
from formulation.masks.inner_problem.dual_cuts import LossName
from formulation.masks.inner_problem.joint_problem import Over
from formulation.network import Array, Scores
from formulation.score_settings import ScoreSettings
from formulation.solution import UNREADABLE, arrays_under, read_arrays

Ending = Literal["optimal", "node_limit", "time_limit"]
FORMAT_OF_MASKS = 1


@dataclass(frozen=True)
class MaskSettings:
    """Settings of one mask program.

    Attributes:
        loss: `labels`, `softened` (the dense network's own answers at a temperature) or `squared` (half the squared
            distance to its logits; the `squared` of `ScoreSettings` is the mean squared error against targets).
        temperature: T > 0 of `softened`.
        refit_weight: r > 0, what a change of a surviving weight costs; infinite: no weight changes, the first-order
            program of the `linear` gate.
        integer: search for masks and branch; otherwise the relaxation alone is proved, and rounded.
        gap: (objective - bound) / max(|objective|, 1e-3) at which the call ends.
        nodes: regions that are looked at, at most.
        time_limit: seconds for the call but for its last step, the check; half of them at most for the relaxation where
            masks are branched on.
        swaps: passes of the search for better masks, at most.
        solver, solver_options, threads: as in `ScoreSettings`.

    Raises:
        InvalidSetting: a value outside its range, named with the range.
    """

    loss: LossName = "softened"
    temperature: float = 4.0
    refit_weight: float = 0.1
    integer: bool = True
    gap: float = 0.05
    nodes: int = 200
    time_limit: float = 600.0
    swaps: int = 20
    solver: str = "highs"
    solver_options: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1

    def __post_init__(self) -> None:
        if self.loss not in get_args(LossName):
            raise InvalidSetting(f"loss={self.loss!r} is unknown; use one of {', '.join(get_args(LossName))}")
        for name in ("temperature", "refit_weight", "gap", "time_limit"):
            value = getattr(self, name)
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
            if not number or (name != "refit_weight" and not math.isfinite(value)):
                raise InvalidSetting(f"{name}={value!r} is out of range; it must be greater than 0")
        for name, least in (("nodes", 1), ("swaps", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InvalidSetting(f"{name}={value!r} is out of range; give a whole number of at least {least}")
        if not isinstance(self.integer, bool):
            raise InvalidSetting(f"integer={self.integer!r} is neither True nor False")
        self.for_solver()
        object.__setattr__(self, "solver_options", dict(self.solver_options))

    def for_solver(self) -> ScoreSettings:
        """What a solver session reads."""
        return ScoreSettings(
            gate="linear",
            radius=0.0,
            solver=self.solver,
            solver_options=self.solver_options,
            time_limit=self.time_limit,
            threads=self.threads,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values; an infinite refit weight is the word `inf`."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {
            "refit_weight": self.refit_weight if math.isfinite(self.refit_weight) else "inf",
            "solver_options": dict(self.solver_options),
        }

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> MaskSettings:
        """The inverse of `to_dict`."""
        return MaskSettings(**{**values, "refit_weight": float(values["refit_weight"])})


@dataclass(frozen=True, eq=False)
class Leaf:
    """A region of the branching and the duals that bound it.

    Attributes:
        path: the branches that lead there.
        weights: mu of the proof's cuts, at least 0 and 1 in all, [cuts].
        rows: lambda >= 0 of the region's rows, in the order of `rows_of`, [rows].
    """

    path: tuple[Branch, ...]
    weights: Array
    rows: Array


@dataclass(frozen=True, eq=False)
class MaskProof:
    """Duals of the images behind every cut, [cuts, classes, images], and the leaves, which cover every mask."""

    duals: Array
    leaves: tuple[Leaf, ...]


@dataclass(frozen=True)
class MaskCertificate:
    """What is proved: no mask within the budget and the trust region has an objective below `bound`.

    Attributes:
        status: `optimal` (the gap was reached), `node_limit` or `time_limit`.
        objective: of the masks: the loss of the linearised network with the best changes of the surviving weights, and
            what these changes cost.
        bound, gap: proved of every mask; (objective - bound) / max(|objective|, 1e-3).
        relaxation: bound that the relaxation alone proves.
        relaxed_objective: of the relaxed scores.
        unchanged_loss: the loss of the linearised network at the masks without any change of a weight.
        rounds, nodes, cuts: of the cutting planes, regions that were looked at, cuts behind the proof.
        units: kept, by layer.
        notes: what a reader must know.
        over: `mean` or `worst` where the mask is one for several data sets, otherwise empty.
        objectives: then, of each data set by its name, without its weight.
    """

    status: Ending
    objective: float
    bound: float
    gap: float
    relaxation: float
    relaxed_objective: float
    unchanged_loss: float
    rounds: int
    nodes: int
    cuts: int
    seconds: float
    solver: str
    solver_version: str
    model_hash: str
    images_hash: str
    images: int
    units: Mapping[str, int]
    settings: Mapping[str, Any]
    budget: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    checked: bool = False
    over: Over | Literal[""] = ""
    objectives: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values."""
        return asdict(self) | {"notes": list(self.notes)}


@dataclass(frozen=True, eq=False)
class MaskSolution:
    """Masks under a budget, with their proof.

    Attributes:
        masks: kept units (True) by layer.
        scores: of the relaxation, by layer.
        certificate: what is proved.
        proof: the duals behind it.
        base: the mask so far, around which the network was linearised.
        changes: U of each dense layer that reads units, by its node's name, [outputs, columns]; of a mask for several
            data sets by `<data set>/<node>`.
    """

    masks: dict[str, NDArray[np.bool_]]
    scores: Scores
    certificate: MaskCertificate
    proof: MaskProof
    base: dict[str, NDArray[np.bool_]]
    changes: Mapping[str, Array]

    def save(self, folder: str | Path) -> Path:
        """Write masks.npz and mask_certificate.json into a folder, which is made if need be."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        named: dict[str, Mapping[str, np.ndarray]] = {
            "masks": self.masks,
            "scores": self.scores,
            "base": self.base,
            "changes": self.changes,
        }
        arrays = {f"{what}/{name}": values for what, each in named.items() for name, values in each.items()}
        leaves = self.proof.leaves
        arrays["proof/duals"] = self.proof.duals
        for k, leaf in enumerate(leaves):
            arrays |= {f"proof/weights/{k}": leaf.weights, f"proof/rows/{k}": leaf.rows}
        # numpy's types take any keyword for its own `allow_pickle`.
        np.savez(folder / "masks.npz", **arrays)  # type: ignore[arg-type]
        paths = [[list(step) for step in leaf.path] for leaf in leaves]
        text = {"format": FORMAT_OF_MASKS, "certificate": self.certificate.to_dict(), "paths": paths}
        (folder / "mask_certificate.json").write_text(json.dumps(text, indent=2))
        return folder

    @staticmethod
    def load(folder: str | Path) -> MaskSolution:
        """Read what `save` wrote; raises InvalidSolution where a file is missing or damaged."""
        folder = Path(folder)
        try:
            stored = json.loads((folder / "mask_certificate.json").read_text())
            arrays = read_arrays(folder / "masks.npz")
            if stored["format"] != FORMAT_OF_MASKS:
                raise InvalidSolution(f"the masks in {folder} have format {stored['format']!r}; choose them again")
            certificate = MaskCertificate(**stored["certificate"] | {"notes": tuple(stored["certificate"]["notes"])})
            leaves = tuple(
                Leaf(
                    tuple(Branch(str(kind), int(index), int(at), bool(above)) for kind, index, at, above in path),
                    arrays[f"proof/weights/{k}"],
                    arrays[f"proof/rows/{k}"],
                )
                for k, path in enumerate(stored["paths"])
            )
            parts = {what: arrays_under(arrays, f"{what}/") for what in ("masks", "scores", "base", "changes")}
            return MaskSolution(**parts, certificate=certificate, proof=MaskProof(arrays["proof/duals"], leaves))
        except UNREADABLE as error:
            raise InvalidSolution(f"the masks in {folder} cannot be read ({error}); choose them again") from error


def proved_budget(certificate: MaskCertificate) -> MaskBudget:
    """The budget that a certificate is about; raises InvalidSolution where it is damaged."""
    try:
        return MaskBudget.from_dict(certificate.budget)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidSolution(f"the budget in the certificate is damaged ({error}); choose the masks again") from error
