from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from tests.training.networks import Forked, Residual, drawn_masks, example, mixed, stir
from training import build
from training.digests import model_digest
from training.errors import ExportError, ModelError
from training.pruning import consumers, prune
from training.pruning.compaction import compact, export_onnx, export_program
from training.pruning.compaction.layer_surgery import GroupwiseConv


def compacted(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    images = example(model)
    masks = drawn_masks(model, list(consumers(model, images)), 0)
    return compact(model, masks, images), prune(model, masks, images)


def lenet5() -> nn.Module:
    model = build("lenet5", input_shape=(1, 28, 28), classes=10, seed=0).eval()
    model.input_shape = (1, 28, 28)
    return model


MODELS = [
    pytest.param(lenet5(), id="lenet5"),
    pytest.param(stir(Residual(), 2), id="residual"),
    pytest.param(mixed(), id="mixed", marks=pytest.mark.slow),
    pytest.param(stir(Forked(), 1), id="forked", marks=pytest.mark.slow),
]
SIZES = [1, 2, 7]


@pytest.mark.parametrize("model", MODELS)
def test_an_exported_program_computes_what_the_masked_network_does(model: nn.Module, tmp_path: Path) -> None:
    small, masked = compacted(model)
    done = export_program(small, example(model, 1), tmp_path / "a.pt2", metadata={"classes": "[1, 2]"})
    extra = {"classes": ""}
    loaded = torch.export.load(tmp_path / "a.pt2", extra_files=extra).module()
    assert extra == {"classes": "[1, 2]"}
    for size in SIZES:
        images = example(model, size, seed=size)
        torch.testing.assert_close(loaded(images), masked(images), atol=1e-5, rtol=0.0)
    assert done.path == tmp_path / "a.pt2"
    assert done.file_bytes == done.path.stat().st_size
    assert done.images_compared == 64
    assert 0 <= done.max_difference <= 1e-4
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pt2"]


@pytest.mark.parametrize("model", MODELS)
def test_onnx_runtime_computes_what_the_masked_network_does(
    model: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small, masked = compacted(model)
    before = model_digest(small)
    done = export_onnx(small.train(), example(model, 1), tmp_path / "a.onnx", metadata={"classes": "[1, 2]"})
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["classes"] == "[1, 2]"
    [images], [logits] = session.get_inputs(), session.get_outputs()
    assert (images.name, images.shape[0], logits.name, logits.shape[0]) == ("images", "n", "logits", "n")
    for size in SIZES:
        images = example(model, size, seed=size)
        [found] = session.run(["logits"], {"images": images.numpy()})
        np.testing.assert_allclose(found, masked(images).detach().numpy(), atol=1e-5, rtol=0.0)
    assert 0 <= done.max_difference <= 1e-4
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.onnx"]
    assert small.training
    assert model_digest(small) == before
    assert capsys.readouterr().out == ""


def test_unequal_groups_are_exported_for_any_batch(tmp_path: Path) -> None:
    model = mixed()
    images = example(model, 7)
    # The first group has lost its inputs: its units emit their bias.
    masks = {"0": np.arange(6) > 2, "4": np.array([1, 1, 0, 0, 1, 1, 1, 0], dtype=bool)}
    small = compact(model, masks, images)
    assert isinstance(small[4], GroupwiseConv)
    export_program(small, images, tmp_path / "a.pt2")
    export_onnx(small, images, tmp_path / "a.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    for found in (
        torch.export.load(tmp_path / "a.pt2").module()(images).detach(),
        torch.from_numpy(session.run(None, {"images": images.numpy()})[0]),
    ):
        torch.testing.assert_close(found, prune(model, masks, images)(images).detach(), atol=1e-5, rtol=0.0)


class Ending(nn.Module):
    """A Linear and the function of this name on its outputs."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.output, self.way = nn.Linear(16, 3), way

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "fixed batch" and len(x) > 1:
            return self.output(x.reshape(2, 16))
        y = self.output(x.flatten(1))
        if self.way == "bessel":
            return torch.special.bessel_j0(y)
        if self.way == "branch":
            return y if y.sum() > 0 else -y
        return torch.from_numpy(y.detach().numpy()) if self.way == "numpy" else y


def test_an_operation_without_an_onnx_counterpart_is_named(tmp_path: Path) -> None:
    said = r"model Ending cannot be exported to ONNX: operation '\w+.bessel_j0' has no ONNX counterpart; replace it"
    with pytest.raises(ExportError, match=said) as caught:
        export_onnx(Ending("bessel"), torch.zeros(1, 1, 4, 4), tmp_path / "a.onnx")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    export_program(Ending("bessel"), torch.zeros(1, 1, 4, 4), tmp_path / "a.pt2")


@pytest.mark.parametrize(
    ("way", "said"),
    [("fixed batch", "specialized it to be a constant .2."), ("branch", "data-dependent"), ("numpy", "numpy")],
)
def test_a_forward_that_torch_cannot_export_is_refused_with_its_reason(way: str, said: str, tmp_path: Path) -> None:
    for export, name in ((export_program, "a.pt2"), (export_onnx, "a.onnx")):
        with pytest.raises(ExportError, match=f"model Ending cannot be exported by torch.export .*{said}") as caught:
            export(Ending(way), torch.zeros(1, 1, 4, 4), tmp_path / name)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
    assert list(tmp_path.iterdir()) == []


def test_what_onnx_runtime_cannot_run_is_refused(tmp_path: Path) -> None:
    """It has no convolution in float64."""
    with pytest.raises(ExportError, match=r"ONNX Runtime cannot run the exported model \(.*Conv") as caught:
        export_onnx(lenet5().double(), torch.zeros(1, 1, 28, 28), tmp_path / "a.onnx")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_difference_above_the_tolerance_is_an_error_and_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "a.pt2"
    path.write_text("older")
    with pytest.raises(ExportError, match=r"a\.pt2 differs from the model by .* allowed are -1.0e\+00"):
        export_program(lenet5(), torch.zeros(1, 1, 28, 28), path, tolerance=-1.0)
    assert path.read_text() == "older"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pt2"]


def test_what_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"does not end in .pt2"):
        export_program(lenet5(), torch.zeros(1, 1, 28, 28), tmp_path / "a.onnx")
    with pytest.raises(ExportError, match=r"folder .* does not exist"):
        export_onnx(lenet5(), torch.zeros(1, 1, 28, 28), tmp_path / "no" / "a.onnx")
    with pytest.raises(ModelError, match="cannot take images of shape"):
        export_onnx(lenet5(), torch.zeros(1, 1, 9, 9), tmp_path / "a.onnx")
