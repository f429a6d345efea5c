"""The reduced program for other people's solvers: a linopy model, or a file in LP or MPS format."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import highspy

from formulation.deadline import Deadline
from formulation.errors import InvalidSetting, SolverFailed
from formulation.relaxation import reduce, with_jacobians
from formulation.score_settings import ScoreSettings
from formulation.scoring_data import read_program_data, require_fit
from formulation.solve import build_program, import_linopy, require_closed, solve
from formulation.solve.solvers import require_solvable

if TYPE_CHECKING:
    from linopy import Model

FORMATS = (".lp", ".mps")


def linopy_program(model: Any, images: Any, labels: Any, settings: ScoreSettings) -> Model:
    """The reduced program of a scoring set as a linopy model that any solver can solve on its own.

    minimise  loss_weight * mean_i theta_i + sparsity(scores)  subject to the inequalities of unstable activations,
    the cuts of stable ones that were broken while solving, and the loss cuts under the loss found there.

    The program is solved first, for its cuts are found by solving. Its optimum is the bound of the
    certificate that `score` gives with the same settings (to the solver's gap, where it is an integer program).
    Columns: `score_<layer>` (one per unit); `hidden_<node>` and `open_<node>` (one per unstable activation);
    `out_<node>` (one per unstable max-pool window) and `pick_<node>` (one per member of such a window); `theta` (one
    per image up to `loss.GROUPS` images, one per group of images above); with `cuts="lifted"` one `theta` per image
    throughout and `mass` (one per image and class); `level` and `excess` of the sparsity term.

    Args:
        model, images, labels, settings: as for `score`.

    Raises:
        FormulationError: what `score` raises, before any work or while solving.
        TimeLimitReached, SolverFailed: the gap was not closed, so that the optimum would be no bound to be trusted.
    """
    import_linopy()
    require_solvable(settings)
    deadline = Deadline.after(settings.time_limit)
    network, pixels, classes = read_program_data(model, images, labels, settings, deadline)
    require_fit(network, pixels, classes, settings)
    plain = replace(settings, break_ties=False)
    reduction = with_jacobians(reduce(network, pixels, classes, settings, deadline=deadline), deadline=deadline)
    program = build_program(reduction, plain, integer=settings.integer_scores or not settings.relax)
    outcome = solve(reduction, plain, None, deadline)
    require_closed(outcome, settings, "the program was complete")
    program.add_cuts("rows", outcome.cuts)
    return program.model


def write_program(model: Any, images: Any, labels: Any, settings: ScoreSettings, path: str | Path) -> Path:
    """Write `linopy_program` to a file in the format of its suffix, with readable names.

    A column is named `<what>_<layer>(<position>)#<number>`. A file that is there already is replaced.

    Args:
        model, images, labels, settings: as for `score`.
        path: of the file, ending in .lp or .mps.

    Returns:
        The path.

    Raises:
        InvalidSetting: another suffix, or a path that cannot be written, before any work.
        SolverFailed: the file cannot be written in that format.
        FormulationError: what `linopy_program` raises.
    """
    path = _writable(path)
    program = linopy_program(model, images, labels, settings)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSetting(f"'{path.parent}' cannot be made ({error.strerror}); give another folder") from error
    if path.suffix == ".lp":
        program.to_file(path, progress=False, explicit_coordinate_names=True)
        return path
    with tempfile.TemporaryDirectory(prefix="program") as folder:
        # linopy would have HiGHS write it too, and talk on the standard output
        readable = program.to_file(Path(folder) / "program.lp", progress=False, explicit_coordinate_names=True)
        highs = highspy.Highs()
        highs.silent()
        read, written = highs.readModel(str(readable)), highs.writeModel(str(path))
    if highspy.HighsStatus.kError in (read, written):
        raise SolverFailed(f"highs cannot write '{path}' in MPS format; write an .lp file instead")
    return path


def _writable(path: str | Path) -> Path:
    """The path, where a file of a known format can be written to it; raises InvalidSetting."""
    if not isinstance(path, str | Path):
        raise InvalidSetting(f"path={path!r} is no path; give the name of an .lp or .mps file")
    path = Path(path)
    if path.suffix not in FORMATS:
        raise InvalidSetting(f"a program is written as {' or '.join(FORMATS)}, found '{path.name}'; rename the file")
    if path.is_dir():
        raise InvalidSetting(f"'{path}' is a folder; give the name of a file in it")
    there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if there != path and not there.is_dir():
        raise InvalidSetting(f"'{path}' cannot be written, for '{there}' is a file; give another folder")
    if not os.access(there, os.W_OK):
        raise InvalidSetting(f"'{path}' cannot be written, for '{there}' is read-only; give another folder")
    return path
