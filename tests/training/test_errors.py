from __future__ import annotations

import inspect
import pickle

import pytest

from training import errors
from training.errors import TrainingDiverged, TrainingError

FAMILY = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]


@pytest.mark.parametrize("kind", FAMILY)
def test_every_exception_of_the_room_is_a_training_error(kind: type[Exception]) -> None:
    assert issubclass(kind, TrainingError)


def test_a_message_quoted_over_several_lines_becomes_one() -> None:
    assert str(TrainingError("first\n   second\n")) == "first second"


def test_an_error_survives_pickling_as_task_runners_need() -> None:
    again = pickle.loads(pickle.dumps(TrainingDiverged("epoch 3")))
    assert isinstance(again, TrainingDiverged)
    assert str(again) == "epoch 3"
