"""The answer of a score call: scores, the undecided activations' values, and the certificate behind them."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args
from zipfile import BadZipFile

import numpy as np

from formulation.errors import InvalidSolution
from formulation.network import Array, Index, Scores

Status = Literal["optimal", "time_limit", "round_limit", "stalled"]
Phase = Literal["relaxation", "integer"]


@dataclass(frozen=True)
class Round:
    """One round of outer approximation: `gap` is relative, `rows` were added so far, `seconds` since the start."""

    index: int
    phase: Phase
    bound: float
    objective: float
    gap: float
    rows: int
    seconds: float


@dataclass(frozen=True)
class Certificate:
    """What is proved about the scores, by whom, and on what.

    Attributes:
        status: `optimal` (the relative gap was reached), `time_limit`, `round_limit`, or `stalled` (no row or plane
            left to add although the gap is open: the solver's tolerance is larger than the gap asked for).
        objective, bound: of the program (integer or relaxed, as set); bound <= optimum <= objective.
        gap: (objective - bound) / max(1, |objective|).
        cross_entropy, sparsity: the mean loss over the images, unweighted, and the sum of the largest layer terms.
        proved_bound: what the stored multipliers prove of the relaxed program, plain arithmetic that `check` repeats;
            the bound itself where nothing is integer. None where no linear program was finished.
        relaxed_change: per layer the largest difference of a score from the relaxed program's, where an integer one
            was solved on top of it.
        relaxation: objective of the relaxed program, where an integer one was solved on top of it.
        columns, rows, undecided: size of the reduced program, rows added, activations with variables of their own.
        largest_residual: the independent checker's largest violation of any constraint; None before the check.
        notes: what a reader must know before trusting the scores.
    """

    status: Status
    objective: float
    bound: float
    gap: float
    cross_entropy: float
    sparsity: float
    relaxation: float | None
    rounds: int
    seconds: float
    solver: str
    solver_version: str
    model_hash: str
    images_hash: str
    images: int
    columns: int
    rows: int
    undecided: int
    settings: Mapping[str, Any]
    proved_bound: float | None = None
    relaxed_change: Mapping[str, float] | None = None
    notes: tuple[str, ...] = ()
    checked: bool = False
    largest_residual: float | None = None

    def __post_init__(self) -> None:
        optional = tuple(f for f in (self.proved_bound, self.relaxation) if f is not None)
        figures = (self.objective, self.bound, self.gap, self.cross_entropy, self.sparsity, *optional)
        numbers = all(isinstance(f, (int, float)) and math.isfinite(f) for f in figures)
        counts = all(isinstance(n, int) for n in (self.images, self.columns, self.undecided))
        if self.status not in get_args(Status) or not numbers or not counts:
            raise InvalidSolution(
                f"the certificate is damaged (status {self.status!r}, figures {figures}); score again"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values."""
        return asdict(self) | {"settings": dict(self.settings), "notes": list(self.notes)}


@dataclass(frozen=True, eq=False)
class Undecided:
    """Values of a node's undecided activations or max-pool windows.

    `where` [k, 2] holds (activation, image), `value` [k] h or the window's output, `phase` [k, 1] open or
    [k, window] the picks, 0 where the window holds nothing.
    """

    where: np.ndarray
    value: Array
    phase: Array

    def __post_init__(self) -> None:
        count = len(self.where)
        shapes = (self.where.shape, self.value.shape, self.phase.shape)
        fit = self.phase.ndim == 2 and shapes[:2] == ((count, 2), (count,)) and len(self.phase) == count
        if not fit or not np.issubdtype(self.where.dtype, np.integer):
            raise InvalidSolution(f"the undecided values have shapes {shapes}; score again")


@dataclass(frozen=True, eq=False)
class Proof:
    """Multipliers that prove a lower bound on the relaxed program: see `proof`.

    Attributes:
        probabilities: p, [classes, images].
        layers: nu, one per scored layer.
        rows: of decided activations and windows: position of the node in the network, flat position in the node's rows
            of one image, and image, [k, 3].
        prices: mu of these rows, > 0 on a lower and < 0 on an upper bound, [k].
        undecided: mu of the inequalities of undecided activations, `<family>/<node>`, in the order of their columns.
    """

    probabilities: Array
    layers: Array
    rows: Index
    prices: Array
    undecided: Mapping[str, Array]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays under names that start with `proof/`."""
        plain = {name: getattr(self, name) for name in ("probabilities", "layers", "rows", "prices")}
        named = {f"undecided/{name}": values for name, values in self.undecided.items()}
        return {f"proof/{name}": np.asarray(values) for name, values in (plain | named).items()}

    @staticmethod
    def from_arrays(arrays: Mapping[str, np.ndarray]) -> Proof:
        """The inverse of `to_arrays`."""
        p, layers, rows, prices = (arrays[f"proof/{name}"] for name in ("probabilities", "layers", "rows", "prices"))
        return Proof(p, layers, rows, prices, _named(arrays, "proof/undecided/"))


@dataclass(frozen=True, eq=False)
class Solution:
    """Scores per unit of every scored layer, with the certificate and the rounds that led to it.

    Attributes:
        undecided: values of the undecided activations, by the node's name.
        reduced_costs: per unit the rate at which the proved bound grows with its score: below 0, how dear the unit at
            score 1 is; above 0, what a unit at 0 would cost. Empty where nothing was proved.
        proof: the multipliers behind `certificate.proved_bound`.
    """

    scores: Scores
    certificate: Certificate
    rounds: tuple[Round, ...] = ()
    undecided: Mapping[str, Undecided] = field(default_factory=dict)
    reduced_costs: Scores = field(default_factory=dict)
    proof: Proof | None = None

    def save(self, folder: str | Path) -> Path:
        """Write solution.npz and certificate.json into a folder, which is made if need be."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {f"scores/{name}": values for name, values in self.scores.items()}
        for name, values in self.undecided.items():
            arrays |= {f"{what}/{name}": getattr(values, what) for what in ("where", "value", "phase")}
        arrays |= {f"reduced_costs/{name}": values for name, values in self.reduced_costs.items()}
        if self.proof is not None:
            arrays |= self.proof.to_arrays()
        np.savez(folder / "solution.npz", **arrays)  # type: ignore[arg-type]
        text = json.dumps(self.certificate.to_dict() | {"history": [asdict(r) for r in self.rounds]}, indent=2)
        (folder / "certificate.json").write_text(text)
        return folder

    @staticmethod
    def load(folder: str | Path) -> Solution:
        """Read what `save` wrote; raises InvalidSolution where a file is missing or damaged."""
        folder = Path(folder)
        try:
            stored = json.loads((folder / "certificate.json").read_text())
            with np.load(folder / "solution.npz") as archive:
                arrays = {name: archive[name] for name in archive.files}
            history = tuple(Round(**r) for r in stored.pop("history"))
            certificate = Certificate(**stored | {"notes": tuple(stored["notes"])})
            layers = _named(arrays, "where/")
            undecided = {n: Undecided(arrays[f"where/{n}"], arrays[f"value/{n}"], arrays[f"phase/{n}"]) for n in layers}
            scores, costs = (_named(arrays, f"{what}/") for what in ("scores", "reduced_costs"))
            proof = Proof.from_arrays(arrays) if "proof/probabilities" in arrays else None
            return Solution(scores, certificate, history, undecided, costs, proof)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile, zlib.error) as error:
            raise InvalidSolution(f"the solution in {folder} cannot be read ({error}); score again") from error


def _named(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}
