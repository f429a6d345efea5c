"""Programs solved once: what of a crashed integer program is kept, and found by whoever asks for it."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from flows.adapters.library_settings import score_settings_of
from flows.adapters.programs import ProgramInputs
from flows.adapters.solving import require_asked, solution_fault, solved
from flows.config.settings import Settings
from formulation import InvalidSolution, ScoreSettings, Solution, SolverCrashed
from tests.formulation.cases import dense
from tests.formulation.solve.solvers.test_solver_crashes import killing

CASE = dense(1, images=6)
WHOLE = ScoreSettings(gate="published", radius=0.1, relax=False, loss_weight=20, gap=1e-6)


def test_what_survives_a_solvers_crash_is_found_by_whoever_asks_for_the_relaxation(tmp_path: Path) -> None:
    settings = Settings(cache=str(tmp_path / "cache"))
    instance = ProgramInputs(CASE.model, CASE.images, CASE.labels, WHOLE)
    with killing(signal.SIGSEGV), pytest.raises(SolverCrashed, match="the relaxation survives"):
        solved(settings, instance)
    relaxed = solved(settings, replace(instance, settings=replace(WHOLE, relax=True)))
    assert relaxed.certificate.checked
    assert "the relaxation of an integer program: highs" in relaxed.certificate.notes[-1]
    whole = solved(settings, instance)  # the crash itself is not kept
    assert whole.certificate.status == "optimal"
    assert whole.certificate.relaxation == pytest.approx(relaxed.certificate.objective)


def test_a_solution_of_before_a_setting_was_there_is_taken_for_one_with_its_default(tmp_path: Path) -> None:
    settings = Settings(cache="none", gate="linear", loss_weight=0.5)
    asked = score_settings_of(settings)
    instance = ProgramInputs(CASE.model, CASE.images, CASE.labels, asked)
    solved(settings, instance).save(tmp_path / "solution")
    file = tmp_path / "solution" / "certificate.json"
    stored = json.loads(file.read_text())
    assert stored["settings"].pop("loss") == "cross_entropy"
    file.write_text(json.dumps(stored))
    earlier = Solution.load(tmp_path / "solution")
    require_asked(earlier, instance)
    assert not solution_fault(settings, tmp_path)
    quantities = replace(instance, settings=replace(asked, loss="squared"))
    with pytest.raises(InvalidSolution, match=r"^it was made with another loss$"):
        require_asked(earlier, quantities)
    del stored["settings"]["loss_weight"]
    file.write_text(json.dumps(stored))
    assert solution_fault(settings, tmp_path).endswith("was made with another loss_weight")
