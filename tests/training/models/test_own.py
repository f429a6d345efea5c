from __future__ import annotations

import pickle
import sys
import time
from pathlib import Path

import pytest
from torch import nn

from training.errors import ModelError
from training.models.own import call_factory

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


ENDING = {
    "os._exit(0)": "with exit code 0",
    "os._exit(7)": "with exit code 7",
    "os.abort()": "by SIGABRT",
    "os.kill(os.getpid(), 9)": "by SIGKILL",
    "os.execvp('true', ['true'])": "with exit code 0",
}


@pytest.mark.parametrize("last_words", ENDING)
@pytest.mark.parametrize("where", ["import", "call"])
def test_a_factory_that_ends_its_process_does_not_end_this_one(where: str, last_words: str, tmp_path: Path) -> None:
    path = tmp_path / "ending.py"
    path.write_text(f"import os\n{last_words}\n" if where == "import" else f"import os\ndef own():\n  {last_words}\n")
    with pytest.raises(ModelError, match=f"it ends the process that asks it for a model, {ENDING[last_words]}; let"):
        call_factory(f"{path}:own")


RAISING = {
    "raise SystemExit(0)": "SystemExit: 0",
    "sys.exit()": "SystemExit",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
    "raise GeneratorExit": "GeneratorExit",
    "input('name? ')": "EOFError",
    "raise MemoryError": "MemoryError",
    "own()": "RecursionError",
    "return sys.stdin.read()": "returns str, not a torch nn.Module",
    "print('\\n' * 100); sys.stderr.write('a\\nb')": "returns NoneType, not a torch nn.Module",
    "return nn.Linear": "returns type, not a torch nn.Module",
}


@pytest.mark.parametrize("last_words", RAISING)
def test_a_factory_that_raises_asks_or_prints_is_refused_in_one_line_and_nothing_is_printed(
    last_words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "raising.py"
    path.write_text(f"import sys\nfrom torch import nn\ndef own():\n  {last_words}\n")
    with pytest.raises(ModelError, match=RAISING[last_words]) as refusal:
        call_factory(f"{path}:own")
    assert "\n" not in str(refusal.value)
    assert capfd.readouterr() == ("", "")


def test_a_factory_is_tried_again_once_its_file_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    path.write_text("import os; os._exit(0)")
    with pytest.raises(ModelError, match="ends the process"):
        call_factory(f"{path}:own")
    path.write_text("from torch import nn\ndef own():\n  return nn.Linear(2, 2)\n")
    assert isinstance(call_factory(f"{path}:own"), nn.Linear)


def test_a_factory_that_leaves_threads_behind_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "lasting.py"
    path.write_text(
        "import threading, time\nfrom torch import nn\ndef own():\n"
        "  if __name__ == 'tried_model': threading.Thread(target=time.sleep, args=(1000,)).start()\n"
        "  return nn.Linear(2, 2)\n"
    )
    start = time.monotonic()
    assert isinstance(call_factory(f"{path}:own"), nn.Linear)
    assert time.monotonic() - start < 60
