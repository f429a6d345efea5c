"""The unreduced program in a conic solver: the certified optimum again, where the development extra is installed."""

from __future__ import annotations

import importlib
import sys

import pytest

from formulation import lower
from formulation.scoring_data import checked_labels, flatten_images
from tests.formulation.test_golden import CERTIFIED, FC3, instance, settings_at


@pytest.mark.parametrize("free_inputs", [True, False])
def test_clarabel_meets_the_certified_optimum(free_inputs: bool) -> None:
    pytest.importorskip("cvxpy", reason="needs requirements-dev.txt")
    pytest.importorskip("clarabel", reason="needs requirements-dev.txt")
    conic = importlib.import_module("benchmarks.conic")
    model, images, labels = instance(FC3, 1)
    network, pixels = lower(model, images), flatten_images(images)
    objective, compiling, solving = conic.solve_unreduced(
        network, pixels, checked_labels(labels, 1), settings_at(1e-4), free_inputs=free_inputs
    )
    assert objective == pytest.approx(CERTIFIED[FC3, 1], abs=1e-4)
    assert compiling > 0
    assert solving > 0


def test_without_the_development_extra_the_remedy_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cvxpy", None)
    monkeypatch.delitem(sys.modules, "benchmarks.conic", raising=False)
    with pytest.raises(ImportError, match=r"pip install -r requirements-dev\.txt") as raised:
        importlib.import_module("benchmarks.conic")
    assert "\n" not in str(raised.value)
