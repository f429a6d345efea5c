"""Packages of extras that are not installed: one line names the command, before any work."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import training
from training import TrainingError, UnknownModel

WANTED: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "digits": ("sklearn", "data", lambda place: training.load("digits", root=None, seed=0)),
    "mnist": ("torchvision", "data", lambda place: training.load("mnist", root=place, seed=0)),
    "resnet18": (
        "torchvision",
        "data",
        lambda place: training.build("torchvision:resnet18", input_shape=(3, 32, 32), classes=10, seed=0),
    ),
    "onnx": (
        "onnxscript",
        "export",
        lambda place: training.export_onnx(nn.Linear(2, 2), torch.zeros(1, 2), place / "file.onnx"),
    ),
}


@pytest.mark.parametrize("case", WANTED)
def test_a_missing_package_is_answered_by_the_command_that_installs_it(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, extra, ask = WANTED[case]
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(TrainingError) as raised:
        ask(tmp_path)
    assert str(raised.value).endswith(f'{package} is not installed: pip install "critical-neurons[{extra}]"')
    assert list(tmp_path.iterdir()) == []


def test_without_torchvision_a_misspelt_name_is_still_answered_by_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(UnknownModel, match="did you mean 'lenet5'"):
        training.build("lenet55", input_shape=(1, 8, 8), classes=10, seed=0)
    assert not training.is_known("torchvision:resnet18")
