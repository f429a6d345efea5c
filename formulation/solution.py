"""The answer of a score call: scores, the unstable activations' values, and the certificate behind them."""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from lzma import LZMAError
from pathlib import Path
from typing import Any, Literal, get_args
from zipfile import BadZipFile

import numpy as np

from formulation.errors import InvalidSolution
from formulation.network import Array, Index, Scores, Unstable

Status = Literal["optimal", "time_limit", "round_limit", "stalled"]
Phase = Literal["relaxation", "integer"]
FORMAT = 2  # of the files of a stored solution; 1, which did not say so, named the dual bound's arrays `proof/...`
STORED_NAMES = {"cuts": "rows"}  # fields that files, metrics and tables know by an older name
UNREADABLE = (  # what json, numpy and zipfile raise for bytes that are not theirs
    *(OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, RecursionError, MemoryError),
    *(NotImplementedError, RuntimeError, BadZipFile, zlib.error, LZMAError, struct.error),
)


def relative_gap(objective: float, bound: float) -> float:
    """(objective - bound) / max(1, |objective|), at least 0."""
    return float(max(0.0, objective - bound) / max(1.0, abs(objective)))


@dataclass(frozen=True)
class Round:
    """One round of outer approximation: `gap` is relative, `cuts` were added so far, `seconds` since the start."""

    index: int
    phase: Phase
    bound: float
    objective: float
    gap: float
    cuts: int
    seconds: float

    def __post_init__(self) -> None:
        figures = (self.bound, self.objective, self.gap, self.seconds)
        if (
            self.phase not in get_args(Phase)
            or not all(_is_number(f) for f in figures)
            or not all(_is_count(n) for n in (self.index, self.cuts))
        ):
            raise InvalidSolution(f"round {self.index!r} of the history is damaged (figures {figures}); score again")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values under the names of stored solutions."""
        return _under_stored_names(asdict(self))


@dataclass(frozen=True)
class Certificate:
    """What is proved about the scores, by whom, and on what.

    Attributes:
        status: `optimal` (the relative gap was reached), `time_limit`, `round_limit`, or `stalled` (no cut
            left to add although the gap is open: the solver's tolerance is larger than the gap asked for).
        objective, bound: of the program (integer or relaxed, as set); bound <= optimum <= objective.
        gap: (objective - bound) / max(1, |objective|).
        cross_entropy, sparsity: the mean loss over the images, unweighted (where the settings' loss is `squared` the
            mean squared error), and the sum of the largest layer terms.
        proved_bound: what the stored duals prove of the relaxed program, plain arithmetic that `check` repeats;
            the bound itself where nothing is integer. None where no linear program was finished.
        relaxed_change: per layer the largest difference of a score from the relaxed program's, where an integer one
            was solved on top of it.
        relaxation: objective of the relaxed program, where an integer one was solved on top of it.
        columns, cuts, unstable: size of the reduced program, cuts added, activations with variables of their own.
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
    cuts: int
    unstable: int
    settings: Mapping[str, Any]
    proved_bound: float | None = None
    relaxed_change: Mapping[str, float] | None = None
    notes: tuple[str, ...] = ()
    checked: bool = False
    largest_residual: float | None = None

    def __post_init__(self) -> None:
        optional = tuple(f for f in (self.proved_bound, self.relaxation) if f is not None)
        figures = (self.objective, self.bound, self.gap, self.cross_entropy, self.sparsity, *optional)
        numbers = all(_is_number(f) for f in (*figures, self.seconds))
        counts = all(_is_count(n) for n in (self.images, self.columns, self.unstable, self.cuts, self.rounds))
        if self.status not in get_args(Status) or not numbers or not counts or not self._plain():
            raise InvalidSolution(
                f"the certificate is damaged (status {self.status!r}, figures {figures}); score again"
            )

    def _plain(self) -> bool:
        """Whether words are words, and what may be missing is missing or a number."""
        words = (self.status, self.solver, self.solver_version, self.model_hash, self.images_hash, *self.notes)
        change: Any = {} if self.relaxed_change is None else self.relaxed_change
        residual: Any = 0.0 if self.largest_residual is None else self.largest_residual
        return (
            all(isinstance(word, str) for word in words)
            and isinstance(self.checked, bool)
            and isinstance(change, Mapping)
            and all(_is_number(value) for value in (residual, *change.values()))
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values under the names of stored solutions."""
        return _under_stored_names(asdict(self) | {"settings": dict(self.settings), "notes": list(self.notes)})


@dataclass(frozen=True, eq=False)
class DualBound:
    """Duals that prove a lower bound on the relaxed program: see `duality.dual_bound`.

    Attributes:
        probabilities: p, [classes, images]; where the loss is `squared` its slopes a, [outputs, images].
        layers: nu, one per scored layer.
        cuts: of stable activations and windows: position of the node in the network, flat position in the node's cuts
            of one image, and image, [k, 3].
        cut_duals: mu of these cuts, > 0 on a lower and < 0 on an upper bound, [k].
        unstable: mu of the inequalities of unstable activations, `<family>/<node>`, in the order of their columns.
    """

    probabilities: Array
    layers: Array
    cuts: Index
    cut_duals: Array
    unstable: Mapping[str, Array]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays under names that start with `dual_bound/`."""
        plain = {name: getattr(self, name) for name in ("probabilities", "layers", "cuts", "cut_duals")}
        named = {f"unstable/{name}": values for name, values in self.unstable.items()}
        return {f"dual_bound/{name}": np.asarray(values) for name, values in (plain | named).items()}

    @staticmethod
    def from_arrays(arrays: Mapping[str, np.ndarray]) -> DualBound:
        """The inverse of `to_arrays`."""
        names = ("probabilities", "layers", "cuts", "cut_duals")
        p, layers, cuts, cut_duals = (arrays[f"dual_bound/{name}"] for name in names)
        return DualBound(p, layers, cuts, cut_duals, arrays_under(arrays, "dual_bound/unstable/"))


@dataclass(frozen=True, eq=False)
class Solution:
    """Scores per unit of every scored layer, with the certificate and the rounds that led to it.

    Attributes:
        unstable: values of the unstable activations, by the node's name.
        reduced_costs: per unit the rate at which the proved bound grows with its score: below 0, how dear the unit at
            score 1 is; above 0, what a unit at 0 would cost. Empty where nothing was proved.
        dual_bound: the duals behind `certificate.proved_bound`.
    """

    scores: Scores
    certificate: Certificate
    rounds: tuple[Round, ...] = ()
    unstable: Mapping[str, Unstable] = field(default_factory=dict)
    reduced_costs: Scores = field(default_factory=dict)
    dual_bound: DualBound | None = None

    def save(self, folder: str | Path) -> Path:
        """Write solution.npz and certificate.json into a folder, which is made if need be."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {f"scores/{name}": values for name, values in self.scores.items()}
        for name, values in self.unstable.items():
            arrays |= {f"{what}/{name}": getattr(values, what) for what in ("where", "value", "phase")}
        arrays |= {f"reduced_costs/{name}": values for name, values in self.reduced_costs.items()}
        if self.dual_bound is not None:
            arrays |= self.dual_bound.to_arrays()
        # numpy's types take any keyword for its own `allow_pickle`.
        np.savez(folder / "solution.npz", **arrays)  # type: ignore[arg-type]
        history = [r.to_dict() for r in self.rounds]
        text = json.dumps({"format": FORMAT} | self.certificate.to_dict() | {"history": history}, indent=2)
        (folder / "certificate.json").write_text(text)
        return folder

    @staticmethod
    def load(folder: str | Path) -> Solution:
        """Read what `save` wrote; raises InvalidSolution where a file is missing, damaged or of another format."""
        folder = Path(folder)
        try:
            stored = json.loads((folder / "certificate.json").read_text())
            found = stored.pop("format", 1)
        except UNREADABLE as error:
            raise _unreadable(folder, error) from error
        if type(found) is not int or found != FORMAT:
            raise InvalidSolution(
                f"the solution in {folder} has format {found!r}, this code reads format {FORMAT}; score again"
            )
        try:
            arrays = read_arrays(folder / "solution.npz")
            history = tuple(Round(**_under_our_names(r)) for r in stored.pop("history"))
            certificate = Certificate(**_under_our_names(stored) | {"notes": tuple(stored["notes"])})
            if not isinstance(certificate.settings, Mapping):
                raise InvalidSolution("the settings in the certificate are damaged; score again")
            layers = arrays_under(arrays, "where/")
            unstable = {n: Unstable(arrays[f"where/{n}"], arrays[f"value/{n}"], arrays[f"phase/{n}"]) for n in layers}
            scores, costs = (arrays_under(arrays, f"{what}/") for what in ("scores", "reduced_costs"))
            dual_bound = DualBound.from_arrays(arrays) if "dual_bound/probabilities" in arrays else None
            return Solution(scores, certificate, history, unstable, costs, dual_bound)
        except UNREADABLE as error:
            raise _unreadable(folder, error) from error


def _under_stored_names(values: dict[str, Any]) -> dict[str, Any]:
    return {STORED_NAMES.get(name, name): value for name, value in values.items()}


def _under_our_names(stored: Mapping[str, Any]) -> dict[str, Any]:
    if mixed := sorted(stored.keys() & STORED_NAMES.keys()):
        raise KeyError(f"{mixed[0]} stands where {STORED_NAMES[mixed[0]]} is stored")
    ours = {name: field for field, name in STORED_NAMES.items()}
    return {ours.get(name, name): value for name, value in stored.items()}


def _unreadable(folder: Path, error: Exception) -> InvalidSolution:
    return InvalidSolution(f"the solution in {folder} cannot be read ({error}); score again")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file by their names; raises one of `UNREADABLE`."""
    with np.load(path) as archive:
        return {name: archive[name] for name in archive.files}


def arrays_under(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}
