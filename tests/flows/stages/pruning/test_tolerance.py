"""Selection by tolerance: what is said while it tries networks, and what it leaves whole in residual networks."""

import numpy as np
import pytest
import torch

import training
from flows.cache import StageResult
from flows.config import Settings
from flows.stages.pruning import tolerance
from flows.stages.pruning.tolerance import TrialPace, select_within_tolerance
from tests.residual_network import Stream


def test_layers_of_a_residual_stream_stay_whole_where_that_leaves_fewer_multiply_adds() -> None:
    digits = training.load("digits", root=None, seed=0, image_size=8)
    torch.manual_seed(0)
    fitted = training.FitSettings(epochs=15, learning_rate=0.01)
    network = training.fit(Stream(64), digits.train, digits.validation, fitted).model
    # Without a refit and by a ranking that would rather take the stream: not one of its units can be spared.
    values = {"stem": np.linspace(0, 0.1, 6), "widen": np.linspace(0.5, 1, 40)}
    values["widen"][:10] = 0.0
    settings = Settings(selection="tolerance", tolerance=2.0, image_size=8, refit="false", leave_alone="")
    result = StageResult()
    found = select_within_tolerance(settings, result, network, digits, values)
    assert found.masks["stem"].all()
    assert not found.masks["widen"].all()
    pruned = training.prune(network, found.masks, digits.train.images[:1])
    dense = training.evaluate(network, digits.validation).accuracy
    assert training.evaluate(pruned, digits.validation).accuracy >= dense - 0.02
    assert result.metrics()["tolerance_networks_tried"] > training.shares_tried(46)


@pytest.mark.parametrize(
    ("seconds", "lines", "remedied"), [((0.1, 0.2), 0, False), ((2.0, 3.0), 2, False), ((20.0, 20.0), 2, True)]
)
def test_a_network_that_takes_its_time_has_a_line_and_the_first_slow_one_a_remedy(
    seconds: tuple[float, ...], lines: int, remedied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not caught from the log: whether that is heard depends on what other tests have made of its handlers.
    said: list[str] = []
    monkeypatch.setattr(tolerance.LOG, "info", lambda line, *values: said.append(line % values))
    pace = TrialPace(14)
    for each in seconds:
        pace.tell(each)
    assert sum("of about 14 tried" in line for line in said) == lines
    assert any("selection=share tries one" in line for line in said) == remedied
