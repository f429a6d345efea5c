"""The benchmark of groups' accuracy, on a small residual network: inner maps alone leave tied units whole."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import training
from benchmarks import group_accuracy
from benchmarks.group_accuracy import HEAD, lines, ranked, tied_layers
from training import Dataset, Split


class Residual(nn.Module):
    """A stem, a block whose outcome is added to the stem's, and a layer of classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.outer = (nn.Conv2d(a, b, 3, padding=1) for a, b in ((1, 6), (6, 8), (8, 6)))
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.outer(torch.relu(self.inner(x))))
        return self.last(x.mean((2, 3)))


def case() -> tuple[nn.Module, Dataset]:
    torch.manual_seed(0)
    network, images = Residual().eval(), torch.rand(60, 1, 6, 6)
    with torch.no_grad():
        network.last.bias.copy_(-network(images).mean(0) + network.last.bias)
        labels = network(images).argmax(1)
    split = Split(images, labels)
    return network, Dataset("drawn", split, split, split, ("a", "b", "c"))


@pytest.mark.filterwarnings("ignore::critical_neurons.DoubtfulScores")  # so few images
def test_inner_maps_alone_leave_tied_units_whole_at_equal_multiply_adds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, data = case()
    example = data.train.images[:1]
    assert set(tied_layers(network, example)) == {"stem"}
    scores = ranked(network, data, tmp_path / "scores")
    assert ranked(network, data, tmp_path / "scores").scores.keys() == scores.scores.keys()
    rows = list(lines("residual", network, data, scores, [0.8], tmp_path))
    monkeypatch.setattr(group_accuracy, "measure", pytest.fail)
    assert list(lines("residual", network, data, scores, [0.8], tmp_path)) == rows
    cells = [[each.strip() for each in line.strip("|").split("|")] for line in rows]
    assert [each[2] for each in cells] == ["groups", "inner maps", "usual call"]
    assert {len(each) for each in cells} == {len(HEAD)}
    assert all(float(each[1]) <= 80 for each in cells)
    assert training.evaluate(network, data.test).accuracy == 1.0
