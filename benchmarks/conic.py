"""The published program as it is written, unreduced, for a free conic solver: what the reduction is measured against.

    python -m benchmarks.conic

Every activation of every image keeps its variable and its inequalities; the cross-entropy is an exponential cone.
Needs `pip install -r requirements-dev.txt`.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import torch

from formulation import ScoreSettings, lower
from formulation.bounds import input_box, propagate
from formulation.images import checked_labels, flatten_images
from formulation.network import INPUT, Affine, Array, Index, Network, Relu
from formulation.sparsity import counted, layer_weight
from tests.formulation.test_golden import CERTIFIED, FC3, instance, settings_at

try:
    import cvxpy
except ImportError as error:
    MISSING = "benchmarks.conic needs cvxpy and clarabel: pip install -r requirements-dev.txt"
    if __name__ == "__main__":
        sys.exit(MISSING)
    raise ImportError(MISSING) from error


def solve_unreduced(
    network: Network, pixels: Array, labels: Index, settings: ScoreSettings, *, free_inputs: bool = True
) -> tuple[float, float, float]:
    """The relaxed `published` program, unreduced, by CVXPY and Clarabel on one thread.

    Args:
        network: affine maps and ReLUs.
        pixels: [inputs, images].
        labels: [images].
        settings: loss weight, layer weight, radius and pixel range are read; the gap is Clarabel's tolerance.
        free_inputs: see `write`.

    Returns:
        The objective, and CPU seconds (user + system) to write and compile the program and to solve it.

    Raises:
        ValueError: another gate, an integer program, or an operation other than an affine map or a ReLU.
        RuntimeError: Clarabel ends without an optimum.
    """
    if settings.gate != "published" or not settings.relax or settings.integer_scores:
        raise ValueError("only the relaxed published program is written here: gate='published', relax=True")
    tolerances = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), settings.gap)
    options = {"max_threads": 1, **tolerances}
    started = time.process_time()
    problem = write(network, pixels, labels, settings, free_inputs=free_inputs)
    data, chain, inverse = problem.get_problem_data(cvxpy.CLARABEL, solver_opts=options)
    compiled = time.process_time()
    answer = chain.solve_via_data(problem, data, solver_opts=options)
    solved = time.process_time()
    if str(answer.status) != "Solved":
        raise RuntimeError(f"Clarabel ended with '{answer.status}'; raise the gap, found {settings.gap:g}")
    problem.unpack_results(answer, chain, inverse)
    return float(problem.value), compiled - started, solved - compiled


def write(network: Network, pixels: Array, labels: Index, settings: ScoreSettings, *, free_inputs: bool = True) -> Any:
    """The program in CVXPY: one matrix [activations, images] of `hidden` and one of `open` per ReLU node.

        0 <= hidden <= open u+,   y - (1 - s) u+ <= hidden <= y - (1 - s) u+ - (1 - open) l

    With `free_inputs` the pixels are variables that equal the image, as the program is published (h0 = x); without,
    they are data, so that the first layer's pre-activations are constants.
    """
    boxes = propagate(network, input_box(pixels, settings.radius, settings.pixel_range), valid=False)
    scores = cvxpy.Variable(sum(network.units.values()), bounds=[0, 1])
    values: dict[str, Any] = {INPUT: cvxpy.Variable(pixels.shape) if free_inputs else cvxpy.Constant(pixels)}
    constraints = [values[INPUT] == pixels] if free_inputs else []
    for node in network.nodes:
        made = values[node.source]
        match node.op:
            case Affine(weight, bias):
                made = weight @ made + bias[:, None]
                if not made.is_constant():
                    # Equality rows: substituted into (3) and (4), W h + b is stored twice; on FC-3 with 10 images
                    # that took up to twice as long and ended 3e-3 below the optimum.
                    y = cvxpy.Variable(made.shape)
                    constraints.append(y == made)
                    made = y
            case Relu(score):
                box = boxes[node.source]
                cap = np.maximum(box.upper, 0.0)
                made, rows = _relu(made, scores[score][:, None], cap, box.lower)
                constraints += rows
            case _:
                raise ValueError(f"'{node.name}' is a {type(node.op).__name__}; only affine maps and ReLUs are written")
        values[node.name] = made
    objective = settings.loss_weight * _loss(values[network.nodes[-1].name], labels) + _sparsity(
        network, scores, settings
    )
    return cvxpy.Problem(cvxpy.Minimize(objective), constraints)


def _relu(y: Any, score: Any, cap: Array, least: Array) -> tuple[Any, list[Any]]:
    hidden, open_ = cvxpy.Variable(y.shape, nonneg=True), cvxpy.Variable(y.shape, bounds=[0, 1])
    gated = y - cvxpy.multiply(1 - score, cap)
    rows = [
        hidden <= cvxpy.multiply(open_, cap),
        hidden >= gated,
        hidden <= gated - cvxpy.multiply(1 - open_, least),
    ]
    return hidden, rows


def _loss(logits: Any, labels: Index) -> Any:
    classes, images = logits.shape
    correct = cvxpy.multiply(np.eye(classes)[labels].T, logits)
    return (cvxpy.sum(cvxpy.log_sum_exp(logits, axis=0)) - cvxpy.sum(correct)) / images


def _sparsity(network: Network, scores: Any, settings: ScoreSettings) -> Any:
    terms = [
        (cvxpy.sum(scores[where]) - 2 * layer.units) / layer_weight(network, layer, settings.layer_weight)
        for layer, where in zip(network.layers, network.score_slices.values(), strict=True)
    ]
    return cvxpy.sum_largest(cvxpy.hstack(terms), counted(network, settings.layer_weight))


def main() -> int:
    """Solve the golden FC-3 instance of 10 images in both ways and print a row each."""
    torch.set_num_threads(1)
    model, images, labels = instance(FC3, 10)
    network, pixels, classes = lower(model, images), flatten_images(images), checked_labels(labels, len(images))
    print("| FC-3, 10 images, unreduced | certified | objective | CPU seconds to compile | CPU seconds to solve |")
    print("|---|---|---|---|---|")
    for name, free in (("pixels as variables", True), ("pixels as data", False)):
        found = solve_unreduced(network, pixels, classes, settings_at(1e-4), free_inputs=free)
        print("| {} | {} | {:.7f} | {:.1f} | {:.1f} |".format(name, CERTIFIED[FC3, 10], *found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
