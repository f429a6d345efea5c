"""Score result: what a score call found, why, and what is proved of it; kept in a folder."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import formulation
import training
from formulation import Certificate, InvalidSolution, Pull, Scores, Solution

DATA = "scoring_set.npz"
MOST = 5  # units named in a row of the summary


class Explanation(tuple[Pull, ...]):
    """Pulls, the strongest first; as text a table, a line each."""

    def __str__(self) -> str:
        lines = [f"{'unit':<24} {'score':>6} {'reduced cost':>12} {'pull':>10}  because of"]
        for each in self:
            what = f"image {each.image} of the scoring set" + (f", of class {each.label}" if each.label >= 0 else "")
            if each.kind == "cut":
                what += f": activation {each.activation} of {each.node}"
            unit = f"{each.layer}[{each.unit}]"
            lines.append(f"{unit:<24} {each.score:>6.3f} {each.reduced_cost:>12.3g} {each.pull:>10.3g}  {what}")
        return "\n".join(lines)


@dataclass(frozen=True, eq=False)
class ScoreResult:
    """Scores of a network's units, on the images that they were computed from.

    Attributes:
        solution: of the program: scores, certificate, duals; what `formulation` takes.
        images, labels: the scoring set.
        network: the network that was scored; left out of files and pickles, which are plain data.
        notes: what makes the scores doubtful; empty where nothing does.
    """

    solution: Solution
    images: Tensor
    labels: Tensor
    network: nn.Module | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    @property
    def scores(self) -> Scores:
        """By layer, one per unit in [0, 1]: 1 is critical, 0 removable."""
        return self.solution.scores

    @property
    def importance(self) -> Scores:
        """By layer, how much each unit matters: the score, and among ties its reduced cost; what ranks units."""
        return formulation.importance(self.solution)

    @property
    def certificate(self) -> Certificate:
        """What is proved about the scores."""
        return self.solution.certificate

    @property
    def comparable(self) -> bool:
        """Whether scores of different layers compare: the program counts all units alike."""
        return self.certificate.settings["layer_weight"] in ("network", "total")

    @property
    def unremovable(self) -> dict[str, str]:
        """Scored layers whose units cannot be removed, each with the reason; none where the network is not at hand."""
        if self.network is None:
            return {}
        return training.unfollowed(self.network, self.images[:1], self.scores)

    def explain(self, network: nn.Module | None = None, *, most: int = 3) -> Explanation:
        """Which images and constraints hold each unit's score up, the strongest first; `print` shows a table.

        Args:
            network: that was scored; needed where the result was loaded or unpickled.
            most: images and constraints per unit.

        Raises:
            InvalidSolution: another network, or none.
        """
        network = self.network if network is None else network
        if network is None:
            raise InvalidSolution("a loaded result holds no network: give the one that was scored, explain(network)")
        still = copy.deepcopy(network).cpu().eval()
        return Explanation(formulation.explain(still, self.images, self.labels, self.solution, most=most))

    def save(self, path: str | Path) -> Path:
        """Write the solution and the scoring set into a folder, which is made if need be; the folder."""
        folder = self.solution.save(path)
        notes = np.array(self.notes, dtype=str)
        np.savez_compressed(folder / DATA, images=self.images.numpy(), labels=self.labels.numpy(), notes=notes)
        return folder

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "network": None}

    def __str__(self) -> str:
        lines = [f"{'layer':<20} {'units':>6} {'score 1':>8} {'score 0':>8} {'mean':>6}  most critical"]
        ranked = self.importance
        for layer, values in self.scores.items():
            ones, zeros = int((values >= 1.0).sum()), int((values <= 0.0).sum())
            lines.append(
                f"{layer:<20} {len(values):>6} {ones:>8} {zeros:>8} {values.mean():>6.3f}  {_first(ranked[layer])}"
            )
        doubts = [f"doubtful: {note}" for note in self.notes]
        kept = [f"cannot be removed: {reason}" for reason in self.unremovable.values()]
        return "\n".join([*lines, "", proved_of_scores(self.certificate), *doubts, *kept])


def load_scores(path: str | Path, network: nn.Module | None = None) -> ScoreResult:
    """What `ScoreResult.save` wrote.

    Args:
        path: of the folder.
        network: that was scored, for `explain`; may be left out.

    Raises:
        InvalidSolution: a file is missing or damaged.
    """
    if not Path(path).is_dir():
        raise InvalidSolution(f"{path} is no folder of scores: give the one that `save` returned")
    solution = Solution.load(path)
    try:
        with np.load(Path(path) / DATA, allow_pickle=False) as arrays:
            images, labels = (torch.from_numpy(arrays[name]) for name in ("images", "labels"))
            notes = tuple(map(str, arrays["notes"])) if "notes" in arrays else ()
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise InvalidSolution(f"the scoring set in {path} cannot be read ({error}); score again") from error
    return ScoreResult(solution, images, labels, network, notes)


def proved_of_scores(certificate: Certificate) -> str:
    """What a certificate proves, in a sentence."""
    kind = "relaxed program" if certificate.settings["relax"] else "integer program"
    checked = "recomputed without the solver" if certificate.checked else "not checked"
    return (
        f"{certificate.status}: objective {certificate.objective:.6g} of the {kind}, no scores below "
        f"{certificate.bound:.6g} (gap {certificate.gap:.1e}), {checked}; {certificate.images} images, "
        f"gate {certificate.settings['gate']}, {certificate.solver} {certificate.solver_version}, "
        f"{certificate.seconds:.1f} s"
    )


def _first(values: NDArray[np.float64]) -> str:
    return ", ".join(map(str, np.argsort(-values, kind="stable")[:MOST].tolist()))
