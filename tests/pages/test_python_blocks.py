"""Python in the pages: every block is run, page by page, on a small network, and does what it says."""

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import formulation
import training
from flows import tracking
from tests.flows.small_run import store_in

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
Names = dict[str, Any]


@dataclass(frozen=True)
class Example:
    """What a page's blocks are run on, in the order in which they stand, and what has to hold afterwards."""

    given: Callable[[], Names]
    holds: Callable[[Names], None]


def python_of(page: Path) -> list[str]:
    """A page's blocks of Python, in their order."""
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


def classified(model: nn.Module, shape: tuple[int, ...], count: int = 40) -> Names:
    """A network in eval mode with images that it gets right, of any class."""
    images = torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return {"model": model.eval(), "images": images, "labels": model(images).argmax(1)}


def convolutional() -> Names:
    torch.manual_seed(0)
    layers = {
        **{"conv1": nn.Conv2d(1, 4, 3), "act1": nn.ReLU(), "flat": nn.Flatten()},
        **{"fc1": nn.Linear(4 * 36, 8), "act2": nn.ReLU(), "fc2": nn.Linear(8, 5)},
    }
    return classified(nn.Sequential(OrderedDict(layers)), (1, 8, 8))


def dense() -> Names:
    torch.manual_seed(0)
    layers = {
        **{"flat": nn.Flatten(), "fc1": nn.Linear(64, 24), "act1": nn.ReLU(), "fc2": nn.Linear(24, 24)},
        **{"act2": nn.ReLU(), "fc3": nn.Linear(24, 5)},
    }
    return classified(nn.Sequential(OrderedDict(layers)), (1, 8, 8))


def solved() -> Names:
    names = convolutional()
    settings = formulation.ScoreSettings(gate="pattern", radius=0.0)
    solution = formulation.score(names["model"], names["images"], names["labels"], settings)
    return {**names, "settings": settings, "solution": solution, "folder": solution.save("solution")}


def trained() -> Names:
    """Digits, a dense network that knows them, and a loader of them."""
    data = training.load("digits", root=None, seed=0)
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 10)]
    fitted = training.fit(nn.Sequential(*layers), data.train, data.validation, training.FitSettings(epochs=10))
    loader = DataLoader(TensorDataset(data.train.images, data.train.labels), batch_size=100)
    held_back = {"validation_loader": data.validation, "test": data.test}
    return {"model": fitted.model, "loader": loader, **held_back, **regression()}


def regression() -> Names:
    """A small network of quantities that knows its targets."""
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1)).eval()
    points = torch.rand(200, 3)
    return {"regressor": teacher, "points": points, "targets": teacher(points).detach() + 0.01 * torch.randn(200, 1)}


def lenet() -> Names:
    names = classified(training.build("lenet5", input_shape=(1, 28, 28), classes=10, seed=0), (1, 28, 28), 4)
    return {**names, "masks": {"conv1": np.arange(6) < 3, "fc1": np.arange(120) % 2 == 0}}


def deep() -> Names:
    names = classified(training.build("vgg7@0.05", input_shape=(3, 32, 32), classes=4, seed=0), (3, 32, 32), 16)
    part = training.Split(names["images"], names["labels"])
    return {**names, "data": training.Dataset("drawn", part, part, part, tuple("abcd"))}


def optimised() -> Names:
    names = dense()
    loader = DataLoader(TensorDataset(names["images"], names["labels"]), batch_size=20)
    return {**names, "loader": loader, "image": names["images"][:1]}


def masked() -> Names:
    names, other = dense(), dense()
    second = {"other_network": other["model"], "other_images": other["images"], "other_labels": other["labels"]}
    return {**names, "another_mask": {"fc2": np.arange(24) < 20}, "network": names["model"], **second}


def registered() -> Names:
    """A store in this folder, in which a network of the digits is the champion."""
    data = training.load("digits", root=None, seed=0)
    store = tracking.open_store(store_in(Path.cwd()), "pages")
    images = data.test.images[:2]
    network = training.build("fc2", input_shape=data.input_shape, classes=10, seed=0).eval()
    with tracking.open_flow_run(store, "main", {}) as run:
        model_uri = tracking.log_network(run, network, images, ["torch"], {"classes": list(data.classes)})
        tags = {"dataset": "digits", "dataset_digest": data.validation.digest(), "source_run_id": run.run_id}
        version = tracking.NewVersion("digits", model_uri, "", tags)
        tracking.register_network(run, version, "accuracy", 0.5)
    return {"images": images.numpy(), "network": network}


def readme_holds(names: Names) -> None:
    network, smaller, data = names["network"], names["smaller"], names["data"]
    assert names["scores"].certificate.status == "optimal"
    assert training.evaluate(smaller, data.test).accuracy > training.evaluate(network, data.test).accuracy - 0.03
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in network.parameters()) / 2


def face_holds(names: Names) -> None:
    assert str(names["again"]) == str(names["scores"])
    assert names["smaller"](names["test"].images[:2]).shape == (2, 10)
    assert not names["model"][1].weight[~names["result"].masks["1"]].any()


def norms_hold(names: Names) -> None:
    assert names["result"].scores is None
    assert training.evaluate(names["result"].network, names["test"]).accuracy > 0.7


def scores_hold(names: Names) -> None:
    assert set(names["solution"].scores) == {"conv1", "fc1"}
    assert names["solution"].certificate.checked


def check_holds(names: Names) -> None:
    assert formulation.prove_bound(names["model"], names["images"], names["labels"], names["solution"]) <= (
        names["solution"].certificate.objective
    )


def program_holds(names: Names) -> None:
    assert Path("program.mps").stat().st_size > 0


def masks_hold(names: Names) -> None:
    assert int(names["solution"].masks["fc2"].sum()) == 20
    assert names["solution"].certificate.bound <= names["solution"].certificate.objective


def embedding_holds(names: Names) -> None:
    best, program = torch.from_numpy(names["best"]).float(), names["program"]
    with torch.no_grad():
        logits = names["result"].network(best)[0].numpy()
    np.testing.assert_allclose(names["outputs"].solution.values, logits, atol=1e-4)
    assert program.objective.value == pytest.approx(logits[3] - 0.1 * best.sum().item(), abs=1e-4)


def compacted_holds(names: Names) -> None:
    images: Tensor = names["images"]
    masked_network = training.prune(names["model"], names["masks"], images)
    loaded = training.load_compact("compact.pt")
    torch.testing.assert_close(loaded(images), masked_network(images), rtol=1e-4, atol=1e-5)
    assert names["compacted"].parameters < names["dense"].parameters
    assert Path("compact.pt2").is_file()
    assert Path("compact.onnx").is_file()


def blocks_hold(names: Names) -> None:
    _, scored = formulation.outline(names["model"], names["images"]), names["scores"]
    assert set(scored) >= {layer for block in names["blocks"] for layer in block.layers}


def own_holds(names: Names) -> None:
    assert names["small"]()(torch.rand(2, 1, 28, 28)).shape == (2, 10)
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


def served_hold(names: Names) -> None:
    expected = names["network"](torch.from_numpy(names["images"])).detach().numpy()
    np.testing.assert_allclose(names["model"].predict(names["images"]), expected, atol=1e-5)
    assert names["model"].metadata.metadata["classes"] == list("0123456789")


QUICK = {
    "docs/checking.md": Example(solved, check_holds),
    "docs/guides/embedding.md": Example(optimised, embedding_holds),
    "docs/guides/own-network.md": Example(dict, own_holds),
    "docs/guides/scoring.md": Example(convolutional, scores_hold),
    "docs/guides/solvers.md": Example(solved, program_holds),
    "docs/mask-program.md": Example(masked, masks_hold),
}
SLOW = {
    "README.md": Example(dict, readme_holds),
    "docs/guides/deep-networks.md": Example(deep, blocks_hold),
    "docs/guides/python.md": Example(trained, face_holds),
    "docs/guides/removal.md": Example(lenet, compacted_holds),
    "docs/guides/tracking-ui.md": Example(registered, served_hold),
    "docs/guides/when-to-use.md": Example(trained, norms_hold),
}


@pytest.mark.filterwarnings("ignore::critical_neurons.DoubtfulScores")  # the pages' readers have more images
@pytest.mark.parametrize(
    ("page", "example"), [*QUICK.items(), *(pytest.param(*each, marks=pytest.mark.slow) for each in SLOW.items())]
)
def test_the_python_of_a_page_runs_block_by_block_and_does_what_it_says(
    page: str, example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)
    names = example.given()
    for code in python_of(ROOT / page):
        exec(code, names)
    example.holds(names)


def test_no_page_has_python_that_is_not_run() -> None:
    assert {str(page.relative_to(ROOT)) for page in PAGES if python_of(page)} == set(QUICK) | set(SLOW)
