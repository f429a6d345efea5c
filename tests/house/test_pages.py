"""Pages: a short README, links that lead somewhere, an index that names every page, Python that runs."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import formulation
import training

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\((?!https?://)([^)#\s]*)(?:#([^)\s]*))?\)")
MOST_LINES = 150


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    """The relative links of a page whose file or heading is not there."""
    found = []
    for place, anchor in LINK.findall(prose(page)):
        target = (page.parent / place).resolve() if place else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(f"{place}#{anchor}" if anchor else place)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_of_a_page_lead_to_files_and_headings(page: Path) -> None:
    assert broken_links(page) == []


def test_a_link_to_a_missing_page_or_heading_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One heading\n\n[a](#one-heading) [b](#another) [c](nowhere.md) [d](page.md#one-heading)\n")
    assert broken_links(page) == ["#another", "nowhere.md"]


def test_the_index_names_every_page_of_docs() -> None:
    index = ROOT / "docs" / "index.md"
    named = {(index.parent / place).resolve() for place, _ in LINK.findall(prose(index)) if place}
    assert set((ROOT / "docs").rglob("*.md")) - named == {index}


def test_the_readme_is_short_and_leads_to_the_index() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= MOST_LINES
    assert "(docs/index.md)" in readme


def python_of(page: Path) -> list[str]:
    """A page's blocks of Python, in their order."""
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.slow
def test_the_readmes_python_runs_and_half_of_the_parameters_go_without_much_loss() -> None:
    [code] = python_of(ROOT / "README.md")
    names: dict[str, Any] = {}
    exec(code, names)
    network, smaller, data = names["network"], names["smaller"], names["data"]
    assert names["scores"].certificate.status == "optimal"
    assert training.evaluate(smaller, data.test).accuracy > training.evaluate(network, data.test).accuracy - 0.03
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in network.parameters()) / 2


@pytest.mark.slow
def test_the_guide_to_python_runs_block_by_block_on_a_network_and_a_loader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = training.load("digits", root=None, seed=0)
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 10)]
    fitted = training.fit(nn.Sequential(*layers), data.train, data.validation, training.FitSettings(epochs=10))
    loader = DataLoader(TensorDataset(data.train.images, data.train.labels), batch_size=100)
    names: dict[str, Any] = {"model": fitted.model, "loader": loader, "validation_loader": data.validation}
    monkeypatch.chdir(tmp_path)
    for code in python_of(ROOT / "docs" / "guides" / "python.md"):
        exec(code, names)
    assert str(names["again"]) == str(names["scores"])
    assert names["smaller"](data.test.images[:2]).shape == (2, 10)
    assert not names["model"][1].weight[~names["result"].masks["1"]].any()


def test_the_wrapper_that_normalises_is_lowered_and_cut() -> None:
    page = ROOT / "docs" / "guides" / "own-network.md"
    [code] = [part for part in python_of(page) if "Normalised" in part]
    names: dict[str, Any] = {}
    exec(code, names)
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))
    network = names["Normalised"](inner, [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]).eval()
    images = torch.rand(2, 3, 8, 8)
    emitted = formulation.lower(network, images).evaluate(images.flatten(1).double().numpy().T)
    np.testing.assert_allclose(emitted.T, network(images).detach().numpy(), atol=1e-5)
    masks = {"network.0": np.array([True, False, True, True])}
    smaller = training.compact(network, masks, images)
    assert smaller(images).shape == (2, 5)
    assert smaller.network[0].out_channels == 3
