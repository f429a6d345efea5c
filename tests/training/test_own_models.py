from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest
from torch import nn

from training.errors import ModelError
from training.own_models import call_factory

FILE = """
from torch import nn
from parts import WIDTH

class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(WIDTH, 2)
    def forward(self, x):
        return self.layer(x.flatten(1))

def wrong():
    return 3

def failing():
    raise ValueError("no such thing")

def greedy(width):
    return Own()
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "parts.py").write_text("WIDTH = 4\n")
    path = tmp_path / "own.py"
    path.write_text(FILE)
    return path


def test_a_file_with_its_neighbours_gives_its_model(file: Path) -> None:
    before = list(sys.path)
    model = call_factory(f"{file}:Own")
    assert isinstance(model, nn.Module)
    assert model.layer.in_features == 4
    assert sys.path == before


def test_a_model_from_a_file_can_be_pickled_in_the_same_process(file: Path) -> None:
    model = call_factory(f"{file}:Own")
    assert type(pickle.loads(pickle.dumps(model))) is type(model)


def test_a_module_gives_its_model() -> None:
    assert isinstance(call_factory("tests.training.networks:mixed"), nn.Sequential)


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("none", "has no function or class 'none'"),
        ("wrong", "returns int, not a torch nn.Module"),
        ("failing", "ValueError: no such thing"),
        ("greedy", "called without arguments fails"),
        ("", "is not of the form"),
    ],
)
def test_a_factory_that_gives_no_model_is_refused(file: Path, factory: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        call_factory(f"{file}:{factory}")


@pytest.mark.parametrize("content", ["def broken(:\n", "import no_such_package\n", "x = undefined\n"])
def test_a_file_that_cannot_be_imported_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.py"
    path.write_text(content)
    with pytest.raises(ModelError, match=r"bad\.py cannot be imported") as caught:
        call_factory(f"{path}:make")
    assert "\n" not in str(caught.value)
    assert not [name for name in sys.modules if name.startswith("own_model_bad")]


@pytest.mark.parametrize("name", ["no_such_package:make", "nowhere/own.py:make", "a/b:make", "..:make"])
def test_a_module_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ModelError, match="cannot be imported"):
        call_factory(name)


@pytest.mark.parametrize("last_words", ["raise SystemExit(3)", "class Odd(Exception): pass\nraise Odd('out of ink')"])
def test_a_file_that_ends_or_raises_anything_is_an_error_and_not_the_end(tmp_path: Path, last_words: str) -> None:
    path = tmp_path / "odd.py"
    path.write_text(last_words)
    with pytest.raises(ModelError, match="cannot be imported"):
        call_factory(f"{path}:own")
