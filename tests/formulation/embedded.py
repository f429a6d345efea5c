"""Networks to embed in a linopy model, and what a solver finds in it."""

from __future__ import annotations

import linopy
import numpy as np
from scipy.sparse import csr_array
from xarray import DataArray

from formulation import Layer, Network
from formulation.network import INPUT, Add, Affine, Array, MaxPool, Node, Relu, Shift

CLOSE = 1e-6
INPUTS = 4


def chain(seed: int, hidden: tuple[int, ...] = (5, 4), outputs: int = 3) -> Network:
    """Linear and ReLU in turn."""
    rng = np.random.default_rng(seed)
    nodes, layers, fed, source, units = [], [], INPUTS, INPUT, 0
    for k, width in enumerate(hidden):
        nodes.append(Node(f"fc{k}", affine(rng, width, fed), (source,), width))
        nodes.append(Node(f"relu{k}", Relu(units + np.arange(width)), (f"fc{k}",), width))
        layers.append(Layer(f"fc{k}", width, 1))
        fed, source, units = width, f"relu{k}", units + width
    nodes.append(Node("out", affine(rng, outputs, fed), (source,), outputs))
    return Network(tuple(nodes), tuple(layers), INPUTS)


def affine(rng: np.random.Generator, outputs: int, inputs: int, *, sparse: bool = False) -> Affine:
    weight = rng.normal(size=(outputs, inputs)) * (rng.random((outputs, inputs)) < 0.8)
    return Affine(csr_array(weight) if sparse else weight, rng.normal(size=outputs) / 2)


def branched(seed: int) -> Network:
    """Every operation: two branches with gated and ungated ReLUs, a shift, a padded max-pool of them, a sum."""
    rng = np.random.default_rng(seed)
    windows = np.array([[0, 1, -1], [1, 2, 3], [4, 3, -1], [5, -1, -1]])
    ungated = np.full(4, -1)
    nodes = (
        Node("a", affine(rng, 6, INPUTS), (INPUT,), 6),
        Node("a_relu", Relu(np.array([0, 0, 1, 1, 2, 2])), ("a",), 6),
        Node("a_shift", Shift(np.array([0, 0, 1, 1, 2, -1]), rng.normal(size=6)), ("a_relu",), 6),
        Node("pool", MaxPool(windows), ("a_shift",), 4),
        Node("b", affine(rng, 4, INPUTS, sparse=True), (INPUT,), 4),
        Node("sum", Add(), ("pool", "b", "b"), 4),
        Node("sum_relu", Relu(ungated), ("sum",), 4),
        Node("c", affine(rng, 3, 4), ("sum_relu",), 3),
        Node("c_relu", Relu(3 + np.arange(3)), ("c",), 3),
        Node("out", affine(rng, 2, 3), ("c_relu",), 2),
    )
    return Network(nodes, (Layer("a", 3, 2), Layer("c", 3, 1)), INPUTS)


CASES = {"chain": chain, "branched": branched}


def boxed(low: float = -1.0, high: float = 1.0, size: int = INPUTS) -> tuple[linopy.Model, linopy.Variable]:
    model = linopy.Model()
    return model, model.add_variables(low, high, coords=[("x", np.arange(size))], name="x")


def solve(model: linopy.Model) -> float:
    _, condition = model.solve(
        solver_name="highs", progress=False, output_flag=False, threads=1, mip_rel_gap=0.0,
        mip_feasibility_tolerance=1e-9, primal_feasibility_tolerance=1e-9,
    )  # fmt: skip
    assert condition == "optimal"
    return float(model.objective.value)


def largest_first(model: linopy.Model, outputs: linopy.Variable, *, weight: Array | None = None) -> float:
    """The largest value of the first output (or of a weighted sum of outputs)."""
    chosen = np.eye(outputs.size)[0] if weight is None else weight
    model.add_objective((outputs * DataArray(chosen, coords=outputs.labels.coords)).sum(), sense="max")
    return solve(model)


def binaries(model: linopy.Model) -> int:
    return sum(variable.size for _, variable in model.variables.items() if variable.attrs["binary"])
