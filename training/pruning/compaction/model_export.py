"""A model for other runtimes: torch.export and ONNX, each read back and compared before the file is there."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from naming import first_missing
from training.errors import ExportError
from training.inference import check_finite_weights, check_forward, weight_type

# Sizes of the batches compared; the programs are traced with another one, so a fixed batch size shows.
BATCHES = (1, 63)
TRACED = 2
# What torch's exporters raise where a forward is beyond them.
FAILURES = (
    RuntimeError,
    ValueError,
    TypeError,
    AssertionError,
    AttributeError,
    LookupError,
)
LONGEST = 240


@dataclass(frozen=True)
class Exported:
    """A written file: its size in bytes, how many random images were compared, and the largest difference found.

    `max_difference` is relative to the outputs' scale: max |a - b| / max(1, max |a|).
    """

    path: Path
    file_bytes: int
    images_compared: int
    max_difference: float


def export_program(
    model: nn.Module,
    example_input: Tensor,
    path: str | Path,
    *,
    tolerance: float = 1e-4,
    seed: int = 0,
    metadata: Mapping[str, str] | None = None,
) -> Exported:
    """Write the model, in evaluation mode, as a torch.export program (.pt2) for batches of any size.

    The file is loaded again (`torch.export.load(path).module()`) and must give the model's outputs for 64 random images
    in [0, 1); it is there whole or not at all.

    Args:
        model: left as it was.
        example_input: [n, ...], gives the shapes; n is free.
        path: of the file, ending in .pt2.
        tolerance: largest difference, as a part of the outputs' scale.
        seed: of the random images.
        metadata: text by name that the file holds as extra files (`torch.export.load(path, extra_files={name: ""})`).

    Returns:
        What was written, with the difference found.

    Raises:
        ExportError: torch.export refuses the model (a branch on values, a fixed batch size), or the outputs differ.
        ModelError: the images do not fit.
    """
    target = _target(path, ".pt2")
    still = _still(model, example_input)
    program = _program(still, example_input)

    def write(partial: Path) -> Callable[[Tensor], Tensor]:
        torch.export.save(program, partial, extra_files=dict(metadata or {}))
        loaded: Callable[[Tensor], Tensor] = torch.export.load(partial).module()
        return loaded

    return _write_compared(still, example_input, target, write, tolerance, seed)


def export_onnx(
    model: nn.Module,
    example_input: Tensor,
    path: str | Path,
    *,
    tolerance: float = 1e-4,
    seed: int = 0,
    metadata: Mapping[str, str] | None = None,
) -> Exported:
    """Write the model, in evaluation mode, as one ONNX file: input "images" [n, ...], output "logits" [n, classes].

    ONNX Runtime must give the model's outputs for 64 random images in [0, 1); the file is there whole or not at all.

    Args:
        model: left as it was.
        example_input: [n, ...], gives the shapes; n is free.
        path: of the file, ending in .onnx.
        tolerance: largest difference, as a part of the outputs' scale.
        seed: of the random images.
        metadata: text by name that the file holds as its `metadata_props`.

    Returns:
        What was written, with the difference found.

    Raises:
        ExportError: an operation without an ONNX counterpart, by its name; torch.export refuses the model; the outputs
            differ; ONNX or its runtime is not installed.
        ModelError: the images do not fit.
    """
    if missing := first_missing("onnx", "onnxscript", "onnxruntime"):
        raise ExportError(f"export to ONNX: {missing}")
    target = _target(path, ".onnx")
    still = _still(model, example_input)
    # From a program of our own: given a module, torch.onnx falls back to ways that silently fix the batch size.
    program = _program(still, example_input)

    def write(partial: Path) -> Callable[[Tensor], Tensor]:
        try:
            made = torch.onnx.export(program, (), input_names=["images"], output_names=["logits"], verbose=False)
            assert made is not None, "torch.onnx returns a program where it is told no file"
            shape = made.model.graph.inputs[0].shape
            assert shape is not None
            made.rename_axes({str(shape[0]): "n"})  # torch numbers the axis that is free
            made.save(partial, external_data=False)
        except FAILURES as error:
            found = re.search(r"No ONNX function found for <OpOverload\(op='([^']+)'", str(error))
            what = f"operation {found[1]!r} has no ONNX counterpart" if found else _first_words(_deepest(error))
            raise ExportError(
                f"model {type(model).__name__} cannot be exported to ONNX: {what}; "
                f"replace it in the model, or use export_program"
            ) from error
        if metadata:
            _add_properties(partial, metadata)
        return _onnx_session(partial, (1, *example_input.shape[1:]), weight_type(still))

    return _write_compared(still, example_input, target, write, tolerance, seed)


def _target(path: str | Path, suffix: str) -> Path:
    target = Path(path)
    if target.suffix != suffix:
        raise ExportError(f"{target} does not end in {suffix}: name the file so")
    if not target.parent.is_dir():
        raise ExportError(f"the folder {target.parent} does not exist: create it first")
    return target


def _still(model: nn.Module, example_input: Tensor) -> nn.Module:
    """A copy on the CPU in evaluation mode; refuses what cannot be compared afterwards."""
    check_finite_weights(model)
    check_forward(model, example_input[:1])
    return copy.deepcopy(model).cpu().eval()


def _program(still: nn.Module, example_input: Tensor) -> torch.export.ExportedProgram:
    images = example_input[:1].cpu().to(weight_type(still))
    images = images.expand(TRACED, *images.shape[1:]).contiguous()
    try:
        with torch.no_grad():
            return torch.export.export(still, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))
    except FAILURES as error:
        raise ExportError(
            f"model {type(still).__name__} cannot be exported by torch.export ({_first_words(error)}): "
            f"write its forward in torch operations, without branches on values or a fixed batch size"
        ) from error


def _onnx_session(path: Path, shape: Sequence[int], kind: torch.dtype) -> Callable[[Tensor], Tensor]:
    import onnxruntime  # here, because it takes as long to import as the rest of this room
    from onnxruntime.capi import onnxruntime_pybind11_state as ort

    # Its errors share no class of their own.
    refusals = (ort.Fail, ort.InvalidArgument, ort.InvalidGraph, ort.NotImplemented, ort.RuntimeException)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])

    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        run(torch.zeros(shape, dtype=kind))
    except refusals as error:
        raise ExportError(
            f"ONNX Runtime cannot run the exported model ({_first_words(error)}): "
            f"export in float32, or use export_program"
        ) from error
    return run


def _add_properties(path: Path, metadata: Mapping[str, str]) -> None:
    import onnx  # here, because it takes its time to import

    model = onnx.load(path)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.save(model, path)


def _write_compared(
    still: nn.Module,
    example_input: Tensor,
    target: Path,
    write: Callable[[Path], Callable[[Tensor], Tensor]],
    tolerance: float,
    seed: int,
) -> Exported:
    """Write beside the target, run what was written, and give it its name once it computes the same."""
    # The suffix stays last: torch.export.save asks for it.
    partial = target.with_name(f"{target.stem}.partial{target.suffix}")
    try:
        difference = _largest_difference(still, write(partial), example_input, seed)
        if not difference <= tolerance:
            raise ExportError(
                f"the exported {target.name} differs from the model by {difference:.1e} of its outputs' scale, "
                f"allowed are {tolerance:.1e}: export in float32, or raise the tolerance"
            )
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return Exported(target, target.stat().st_size, sum(BATCHES), difference)


def _largest_difference(still: nn.Module, run: Callable[[Tensor], Tensor], example_input: Tensor, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed)
    largest = 0.0
    for size in BATCHES:
        images = torch.rand(size, *example_input.shape[1:], generator=generator).to(weight_type(still))
        with torch.no_grad():
            expected, found = still(images), run(images)
        largest = max(largest, float((expected - found).abs().max() / expected.abs().max().clamp(min=1)))
    return largest


def _deepest(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _first_words(error: BaseException) -> str:
    """The beginning of what a foreign library said, which may run over pages."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:LONGEST]}{'...' if len(words) > LONGEST else ''}"
