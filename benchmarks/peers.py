"""Beside a peer: the same networks pruned by this project and by Torch-Pruning.

    DATA_ROOT=<folder with the images> python -m benchmarks.peers [--networks resnet18,...] [--trained resnet20,...]

Two tables. *Coverage*: torchvision's classifiers with seeded random weights, as in `benchmarks.coverage`: which of them
Torch-Pruning (magnitude, uniform ratios) takes to 70 % of the multiply-adds, and whether ONNX Runtime agrees with what
it leaves; ours is the other benchmark's. *Accuracy*: networks trained on CIFAR-10, at equal multiply-adds, without
training and after some epochs of the same training: Torch-Pruning by magnitude and by Taylor, and ours by the usual
call. Both are counted by the same counter; the networks are trained as by `benchmarks.ranking`. Every network has a
process of its own; memory is told where that process makes one row, for it is the most that the process ever held.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

import critical_neurons
import training
from benchmarks.coverage import EQUAL, IMAGES, NETWORKS, REMOVED, ROOT, SIDE, settled
from benchmarks.kept import keep
from benchmarks.ranked.cells import Cell, open_bench
from benchmarks.trained import CLASSES
from training import Dataset, FitSettings

try:
    import torch_pruning
except ImportError as error:
    MISSING = "benchmarks.peers needs torch-pruning: pip install -r requirements-dev.txt"
    if __name__ == "__main__":
        sys.exit(MISSING)
    raise ImportError(MISSING) from error

CACHE = Path("~/.cache/critical-neurons/benchmarks")
TRAINED = ("vgg16@0.25", "resnet20")
FITTED = 1000  # images that survivors are fitted to, and that Taylor's and our scores see
VERSION = 1  # of the way a network is measured: raise it with every change that may move a figure
REMAINING = (0.73, 0.4)
EPOCHS, SEED, BATCH = 2, 0, 256
STEPS = 12  # of the bisection for the ratio that leaves a part of the multiply-adds
RATIO = 0.95
COVERED = "| network | taken | multiply-adds removed, % | ONNX Runtime to it | CPU s | peak GB | ended by |"
ACCURATE = (
    "| network (dense) | multiply-adds that stay, % | by | test, no training, % | test, after {} of training, % | "
    "CPU s | ended by |"
)


def by_peer(network: nn.Module, example: Tensor, remaining: float, data: Any = None) -> nn.Module:
    """The network as Torch-Pruning leaves it, the ratio chosen so that at most a part of the multiply-adds remains.

    Args:
        network: left as it was.
        example: [1, ...], of the images.
        remaining: of the multiply-adds.
        data: images and labels for its Taylor importance; None: its magnitude importance.
    """
    whole = multiply_adds(network, example)
    low, high = 0.0, RATIO
    best: nn.Module | None = None
    for _ in range(STEPS):
        ratio = (low + high) / 2
        tried = _once(network, example, ratio, data)
        if multiply_adds(tried, example) <= remaining * whole:
            best, high = tried, ratio
        else:
            low = ratio
    if best is None:
        raise RuntimeError(f"no ratio up to {RATIO} leaves {remaining:.0%} of the multiply-adds")
    return best


def multiply_adds(network: nn.Module, example: Tensor) -> int:
    """What one image costs, by this project's counter."""
    return training.removal(network, {}, example).multiply_adds_before


def _once(network: nn.Module, example: Tensor, ratio: float, data: Any) -> nn.Module:
    tried = copy.deepcopy(network).eval()
    outputs = [part for part in tried.modules() if isinstance(part, nn.Linear) and part.out_features == CLASSES]
    importance = torch_pruning.importance
    judge = importance.MagnitudeImportance(p=2) if data is None else importance.TaylorImportance()
    pruner = torch_pruning.pruner.MetaPruner(
        tried, example, importance=judge, pruning_ratio=ratio, ignored_layers=outputs
    )
    if data is not None:
        images, labels = data
        loss: Tensor = nn.functional.cross_entropy(tried(images), labels)
        torch.autograd.backward(loss)
    pruner.step()
    tried.zero_grad(set_to_none=True)
    return tried


def by_us(network: nn.Module, data: Any, validation: Any, remaining: float) -> nn.Module:
    """The network as the usual call leaves it."""
    return critical_neurons.prune(network, data, validation=validation, multiply_adds=remaining).network


def covered(name: str) -> str:
    """A line of the first table, of one network."""
    network, example = settled(name), torch.rand(IMAGES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    started = time.process_time()
    found = by_peer(network, example[:1], 1 - REMOVED).eval()
    removed = 1 - multiply_adds(found, example[:1]) / multiply_adds(network, example[:1])
    with TemporaryDirectory() as folder:
        written = training.export_onnx(found, example[:1], Path(folder) / "network.onnx", tolerance=EQUAL)
    seconds, peak = time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return f"| {name} | yes | {100 * removed:.1f} | {written.max_difference:.0e} | {seconds:.0f} | {peak:.1f} | |"


def compared(name: str, cache: Path, root: Path, source: str, epochs: int, parts: Sequence[float]) -> list[str]:
    """The lines of the second table, of one network."""
    bench = open_bench(Cell(name, "cifar10", SEED, (), FITTED, str(cache), str(root), source))
    network, dataset, pixels, classes = bench.dense, bench.data, bench.fitted, bench.labels[:FITTED]
    validation = (dataset.validation.images, dataset.validation.labels)
    dense = training.evaluate(network, dataset.test).accuracy
    ways: dict[str, Callable[[float], nn.Module]] = {
        "Torch-Pruning, magnitude": lambda part: by_peer(network, pixels[:1], part),
        "Torch-Pruning, Taylor": lambda part: by_peer(network, pixels[:1], part, (pixels[:BATCH], classes[:BATCH])),
        "this project": lambda part: by_us(network, (pixels, classes), validation, part),
    }
    lines = []
    for part in parts:
        for way, made in ways.items():
            started = time.process_time()
            found = made(part)
            seconds = time.process_time() - started
            stay = multiply_adds(found, pixels[:1]) / multiply_adds(network, pixels[:1])
            both = (found, _trained(found, dataset, epochs))
            tests = [training.evaluate(each, dataset.test).accuracy for each in both]
            lines.append(
                f"| {name} ({100 * dense:.2f}) | {100 * stay:.1f} | {way} | {100 * tests[0]:.2f} | "
                f"{100 * tests[1]:.2f} | {seconds:.0f} | |"
            )
            print(lines[-1], file=sys.stderr, flush=True)
    return lines


def _trained(network: nn.Module, dataset: Dataset, epochs: int) -> nn.Module:
    settings = FitSettings(epochs=epochs, seed=SEED, rate_schedule="cosine")
    return training.fit(network, dataset.train, dataset.validation, settings).model


def apart(words: Sequence[str], kept: Path) -> list[str]:
    """What this benchmark prints for one network, in a process of its own; what ended it, where something did.

    Lines that are whole are kept in a file and not measured again; progress of the process goes to standard error.
    """
    name = hashlib.sha256(json.dumps([VERSION, *words]).encode()).hexdigest()[:16]
    file = kept / f"{words[1]}-{name}.json"
    if file.exists():
        lines: list[str] = json.loads(file.read_text())
        return lines
    print("measure", *words[:6], file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "benchmarks.peers", *words]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    found = read_output(done.returncode, done.stdout)
    if "ended" in found:
        return [f"| {words[1]} | no | | | | | {found['ended'][:120].replace('|', '/')} |"]
    keep(file, found["lines"])
    return list(found["lines"])


def read_output(code: int, printed: str) -> dict[str, Any]:
    """The last line that a process printed, where it is the lines of a table or what ended it; else its exit code."""
    try:
        found = json.loads((printed.splitlines() or [""])[-1])
    except ValueError:
        found = None
    if isinstance(found, dict) and ("ended" in found or ("lines" in found and code == 0)):
        return found
    return {"ended": f"exit code {code}"}


def alone(networks: Sequence[str], trained: Sequence[str], given: argparse.Namespace) -> dict[str, Any]:
    """What is measured in this process."""
    torch.set_num_threads(1)
    sys.excepthook = _ended
    cache = Path(given.cache).expanduser()
    parts = [float(part) for part in given.remaining.split(",")]
    lines = [covered(name) for name in networks]
    for name in trained:
        lines += compared(name, cache, Path(os.environ["DATA_ROOT"]), given.cifar10, given.epochs, parts)
    return {"lines": lines}


def _ended(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Whatever a peer does with a network is a row of the table."""
    sys.__excepthook__(kind, error, trace)
    print(json.dumps({"ended": f"{kind.__name__}: {' '.join(str(error).split())}"}))


def main(words: Sequence[str] | None = None) -> None:
    """Print both tables, network by network."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--networks", default=",".join(NETWORKS), help="of torchvision, by commas; empty: none")
    parser.add_argument("--trained", default=",".join(TRAINED), help="on CIFAR-10, by commas; empty: none")
    parser.add_argument("--remaining", default=",".join(map(str, REMAINING)), help="parts of the multiply-adds")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of training after the removal")
    parser.add_argument("--cache", default=str(CACHE), help="folder of trained networks")
    parser.add_argument("--cifar10", default="", help="folder of CIFAR-10 as images per class; empty: torchvision's")
    parser.add_argument("--alone", action="store_true", help="measure one network here, print its lines as JSON")
    given = parser.parse_args(words)
    networks, trained = ([each for each in names.split(",") if each] for names in (given.networks, given.trained))
    if given.alone:
        print(json.dumps(alone(networks, trained, given)))
        return
    kept = Path(given.cache).expanduser() / "peers"
    own = ["--epochs", str(given.epochs), "--cache", given.cache, "--cifar10", given.cifar10, "--alone"]
    training_of = ACCURATE.format("an epoch" if given.epochs == 1 else f"{given.epochs} epochs")
    covering = [["--networks", name, "--trained", ""] for name in networks]
    comparing = [
        ["--trained", name, "--networks", "", "--remaining", part]
        for name in trained
        for part in given.remaining.split(",")
    ]
    for head, measured in ((COVERED, covering), (training_of, comparing)):
        if measured:
            print(head, "|".join(["", *["---"] * (head.count("|") - 1), ""]), sep="\n", flush=True)
        for chosen in measured:
            print(*apart([*chosen, *own], kept), sep="\n", flush=True)


if __name__ == "__main__":
    main()
