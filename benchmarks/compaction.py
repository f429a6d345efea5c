"""Compaction benchmark: LeNet-5 and FC-3 with half of the units of every layer removed.

    python -m benchmarks.compaction

Units go by the norm of their weights. Dense and compacted network take turns while the seconds are measured, on one
thread, in torch and in ONNX Runtime. Images under $DATA_ROOT, for training alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
import torch
from torch import nn

import training
from benchmarks.trained import SHAPE, train_all
from training import Cost, Evidence, Latency
from training.cost.latency import summarise_seconds, take_turns

MODELS = {"lenet5": "LeNet-5", "fc3": "FC-3"}
RULE, SHARE = "l2_norm", 0.5
BATCHES = (1, 64)
COMPARED = 1000
SCORED = 1000  # images kept beside the weights, as many as other benchmarks ask for
CACHE = Path.home() / ".cache" / "critical-neurons"
FIGURES = (
    "parameters",
    "multiply-adds, one image",
    "bytes of the file",
    *(f"torch, batch of {batch}, ms: median (p95)" for batch in BATCHES),
    *(f"ONNX Runtime, batch of {batch}, ms: median (p95)" for batch in BATCHES),
    f"largest difference of a logit to the masked network's, {COMPARED:,} random images",
    "largest difference of ONNX Runtime to torch, of the outputs' scale",
)


@dataclass(frozen=True)
class Measured:
    """A network before and after: costs in torch, latencies in ONNX Runtime (dense, compacted), differences."""

    dense: Cost
    compacted: Cost
    onnx: tuple[tuple[Latency, ...], tuple[Latency, ...]]
    difference: float
    onnx_difference: float


def measure(network: nn.Module, images: np.ndarray, labels: np.ndarray, seconds: float) -> Measured:
    """Remove, compact, compare and measure; `seconds` for each network, runtime and batch."""
    example = torch.zeros(1, *SHAPE)
    layers = tuple(training.consumers(network, example))
    evidence = Evidence(network, torch.from_numpy(images), torch.from_numpy(labels), layers)
    masks = training.by_share(training.RULES[RULE](evidence), SHARE).masks
    compacted = training.compact(network, masks, example)
    drawn = torch.rand(COMPARED, *SHAPE, generator=torch.Generator().manual_seed(0))
    masked = training.prune(network, masks, example)
    expected, found = (training.predict(each, drawn) for each in (masked, compacted))
    dense, smaller = training.costs(network, compacted, masks, example, batches=BATCHES, seconds=seconds)
    with TemporaryDirectory() as place:
        files = [
            training.export_onnx(each, example, Path(place) / f"{name}.onnx")
            for name, each in (("dense", network), ("compacted", compacted))
        ]
        by_batch = [_onnx_latencies([file.path for file in files], batch, seconds) for batch in BATCHES]
    return Measured(
        dense,
        smaller,
        (tuple(pair[0] for pair in by_batch), tuple(pair[1] for pair in by_batch)),
        float((expected - found).abs().max()),
        max(file.max_difference for file in files),
    )


def _onnx_latencies(files: Sequence[Path], batch: int, seconds: float) -> list[Latency]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = [onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"]) for file in files]
    images = torch.rand(batch, *SHAPE, generator=torch.Generator().manual_seed(0)).numpy()

    def time_run(run: Callable[[], object]) -> float:
        run()  # so that what other networks left in the caches costs nothing
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    runs = [partial(time_run, partial(session.run, None, {"images": images})) for session in sessions]
    return [summarise_seconds(times, batch, 1, "cpu") for times in take_turns(runs, seconds * len(runs))]


def cells(measured: Measured) -> Iterator[tuple[str, str, str]]:
    """For each figure what is dense, compacted, and the ratio of the two."""
    dense, smaller = measured.dense, measured.compacted
    for name in ("parameters", "multiply_adds", "file_bytes"):
        before, after = getattr(dense, name), getattr(smaller, name)
        yield f"{before:,}", f"{after:,}", f"{after / before:.3f}"
    for one, other in ((dense.latencies, smaller.latencies), measured.onnx):
        for slow, fast in zip(one, other, strict=True):
            yield _milliseconds(slow), _milliseconds(fast), f"{fast.median / slow.median:.3f}"
    yield "", f"{measured.difference:.2g}", ""
    yield "", f"{measured.onnx_difference:.2g}", ""


def head() -> tuple[str, str]:
    """The table's first two lines."""
    columns = [f"{name}, {what}" for name in MODELS.values() for what in ("dense", "compacted", "ratio")]
    return f"| figure | {' | '.join(columns)} |", f"|{'---|' * (len(columns) + 1)}"


def rows(measured: Sequence[Measured]) -> Iterator[str]:
    """The table's lines, one for each figure, the networks side by side."""
    for figure, *found in zip(FIGURES, *map(cells, measured), strict=True):
        yield f"| {figure} | {' | '.join(value for three in found for value in three)} |"


def _milliseconds(latency: Latency) -> str:
    return f"{1000 * latency.median:.3f} ({1000 * latency.p95:.3f})"


def main(arguments: Sequence[str]) -> int:
    """Train what the cache lacks, measure both networks and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compaction", description=__doc__)
    parser.add_argument("--cache", default=str(CACHE / "benchmarks"), help="folder of the trained networks")
    parser.add_argument("--data_root", default="", help="folder of the data sets; empty: $DATA_ROOT, else in ~/.cache")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of training")
    parser.add_argument("--seed", type=int, default=0, help="seed of split, initial weights and batches")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each network, runtime and batch")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    root = Path(chosen.data_root or os.environ.get("DATA_ROOT") or CACHE / "data").expanduser()
    cache = Path(chosen.cache).expanduser()
    trained = train_all(list(MODELS), "mnist", SCORED, cache=cache, root=root, epochs=chosen.epochs, seed=chosen.seed)
    measured = [measure(*trained[model].load(SCORED), chosen.seconds) for model in MODELS]
    print(*head(), *rows(measured), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
