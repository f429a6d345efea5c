"""Suggestions for misspelt names, in one place for the whole project."""

from __future__ import annotations

from pathlib import Path

import pytest

from naming import did_you_mean

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("name", "most", "question"),
    [
        ("lenet", 1, "did you mean 'LeNet5'?"),
        ("LENET5", 1, "did you mean 'LeNet5'?"),
        ("conv3", 3, "did you mean 'conv2' or 'conv1'?"),
        ("conv3", 1, "did you mean 'conv2'?"),
        ("conv2", 3, "did you mean 'conv2' or 'conv1'?"),
        ("lenet55", 3, "did you mean 'LeNet5'?"),
        ("xyz", 3, ""),
        ("", 1, ""),
        (3, 1, ""),
    ],
)
def test_the_nearest_names_are_asked_for(name: object, most: int, question: str) -> None:
    assert did_you_mean(name, ["LeNet5", "conv1", "conv2"], most=most) == question


def test_a_prefix_stands_before_each_name() -> None:
    assert did_you_mean("resnet19", ["resnet18"], before="torchvision:") == "did you mean 'torchvision:resnet18'?"


def test_no_other_room_looks_for_near_names_by_itself() -> None:
    rooms = ("benchmarks", "flows", "formulation", "tracing", "training")
    paths = [path for room in rooms for path in (ROOT / room).rglob("*.py") if "difflib" in path.read_text()]
    assert paths == []
