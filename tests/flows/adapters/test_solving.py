"""Programs solved once: what of a crashed integer program is kept, and found by whoever asks for it."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from flows.adapters.programs import ProgramInputs
from flows.adapters.solving import solved
from flows.config.settings import Settings
from formulation import ScoreSettings, SolverCrashed
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
