"""Weights of extreme magnitude: the same optimum where scaling undoes them, a note, or a named error."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from torch import nn

from formulation import FormulationError, InvalidBounds, lower, score
from formulation.relaxation.bounds import Box, propagate
from tests.formulation.cases import Case, dense
from tests.formulation.paper_settings import paper_settings

SETTINGS = {
    "published": paper_settings(radius=0.05, gap=1e-6),
    "pattern": paper_settings(gate="pattern", radius=0.0, gap=1e-6),
    "exact": paper_settings(gate="exact", relax=False, radius=0.0, gap=1e-6),
}
every_semantics = pytest.mark.parametrize("name", sorted(SETTINGS))
extreme = pytest.mark.parametrize("factor", [1e-12, 1e8])


def scaled(factor: float, *, back: bool) -> Case:
    """Two units' incoming weights times a factor and, if asked, their outgoing ones divided by it."""
    case = dense(1)
    first, second = case.model[1], case.model[3]
    assert isinstance(first, nn.Linear)
    assert isinstance(second, nn.Linear)
    with torch.no_grad():
        first.weight[:2] *= factor
        first.bias[:2] *= factor
        if back:
            second.weight[:, :2] /= factor
        return replace(case, labels=case.model(case.images).argmax(dim=1))


@every_semantics
@extreme
def test_units_of_extreme_magnitude_whose_readers_undo_it_score_to_the_same_optimum(factor: float, name: str) -> None:
    plain, other = dense(1), scaled(factor, back=True)
    expected = score(plain.model, plain.images, plain.labels, SETTINGS[name]).certificate
    found = score(other.model, other.images, other.labels, SETTINGS[name]).certificate
    assert found.checked
    assert found.objective == pytest.approx(expected.objective, abs=1e-5)


@every_semantics
@extreme
def test_weights_that_span_many_magnitudes_are_named_in_a_note(factor: float, name: str) -> None:
    case = scaled(factor, back=True)
    notes = score(case.model, case.images, case.labels, SETTINGS[name]).certificate.notes
    (note,) = [note for note in notes if "magnitudes" in note]
    assert re.search(r"\de[+-]\d", note)  # the numbers stand in it
    assert len(note.splitlines()) == 1


@every_semantics
def test_ordinary_weights_carry_no_such_note(name: str) -> None:
    case = dense(1)
    notes = score(case.model, case.images, case.labels, SETTINGS[name]).certificate.notes
    assert not [note for note in notes if "magnitudes" in note]


@every_semantics
@pytest.mark.parametrize("factor", [1e-12, 1e8, 1e200])
def test_magnitudes_that_nothing_undoes_give_a_checked_answer_or_an_error_of_one_line(factor: float, name: str) -> None:
    case = scaled(factor, back=False)
    said = ""
    try:
        assert score(case.model, case.images, case.labels, SETTINGS[name]).certificate.checked
    except FormulationError as refused:
        said = str(refused)
    assert len(said.splitlines()) <= 1


def test_inverted_and_infinite_bounds_are_refused_by_name() -> None:
    case = dense(1)
    network = lower(case.model, case.images)
    with pytest.raises(InvalidBounds, match=r"bounds of 'input' are inverted by 0\.1"):
        propagate(network, Box(case.pixels + 0.1, case.pixels), valid=False)
    with pytest.raises(InvalidBounds, match="bounds of 'input' are not finite"):
        propagate(network, Box(case.pixels, case.pixels + float("inf")), valid=True)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
@every_semantics
def test_bounds_that_overflow_are_refused_in_one_line_before_any_round(name: str) -> None:
    case, rounds = dense(1), []
    with torch.no_grad():
        for layer in (case.model[1], case.model[3]):
            layer.weight *= 1e160
    with pytest.raises(FormulationError) as refused:
        score(case.model, case.images, case.labels, SETTINGS[name], progress=rounds.append)
    assert len(str(refused.value).splitlines()) == 1
    assert rounds == []
