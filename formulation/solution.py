"""The answer of a score call: scores, the undecided activations' values, and the certificate behind them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args
from zipfile import BadZipFile

import numpy as np

from formulation.errors import InvalidSolution
from formulation.network import Array, Scores

Status = Literal["optimal", "time_limit", "round_limit", "stalled"]
Phase = Literal["relaxation", "integer", "ties"]


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
    notes: tuple[str, ...] = ()
    checked: bool = False
    largest_residual: float | None = None

    def __post_init__(self) -> None:
        figures = (self.objective, self.bound, self.gap, self.cross_entropy, self.sparsity)
        if self.status not in get_args(Status) or not all(isinstance(f, (int, float)) for f in figures):
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
class Solution:
    """Scores per unit of every scored layer, with the certificate and the rounds that led to it."""

    scores: Scores
    certificate: Certificate
    rounds: tuple[Round, ...] = ()
    undecided: Mapping[str, Undecided] = field(default_factory=dict)

    def save(self, folder: str | Path) -> Path:
        """Write solution.npz and certificate.json into a folder, which is made if need be."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {f"scores/{name}": values for name, values in self.scores.items()}
        for name, values in self.undecided.items():
            arrays |= {f"{what}/{name}": getattr(values, what) for what in ("where", "value", "phase")}
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
            names = [name.removeprefix("scores/") for name in arrays if name.startswith("scores/")]
            layers = [name.removeprefix("where/") for name in arrays if name.startswith("where/")]
            undecided = {n: Undecided(arrays[f"where/{n}"], arrays[f"value/{n}"], arrays[f"phase/{n}"]) for n in layers}
            return Solution({n: arrays[f"scores/{n}"] for n in names}, certificate, history, undecided)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile, zlib.error) as error:
            raise InvalidSolution(f"the solution in {folder} cannot be read ({error}); score again") from error
