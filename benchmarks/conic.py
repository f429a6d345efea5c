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
from formulation.network import Array, Index, Network
from formulation.scoring_data import checked_labels, flatten_images
from tests.formulation.test_golden import CERTIFIED, FC3, instance, settings_at
from tests.oracles.unreduced import write_out
from tests.oracles.values import stacked

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
        network: the lowered network.
        pixels: [inputs, images].
        labels: [images].
        settings: loss weight, layer weight, radius and pixel range are read; the gap is Clarabel's tolerance.
        free_inputs: see `write`.

    Returns:
        The objective, and CPU seconds (user + system) to write and compile the program and to solve it.

    Raises:
        ValueError: another gate, or an integer program.
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
    """The unreduced program of the tests' oracle in CVXPY, its cross-entropy as an exponential cone.

    With `free_inputs` the pixels are variables that equal the image, as the program is published (h0 = x); without,
    they are data, so that the first layer's pre-activations are constants. What affine maps make is columns of its own:
    substituted into (3) and (4), W h + b is stored twice; on FC-3 with 10 images that took up to twice as long and
    ended 3e-3 below the optimum.
    """
    program = write_out(network, pixels, labels, settings, free_inputs=free_inputs, equations=True)
    columns = cvxpy.Variable(len(program.lower), bounds=[program.lower, program.upper])
    rows, equations = ((each.weight @ columns + each.constant) for each in (program.rows, program.equations))
    logits = stacked(list(program.logits), len(program.lower))
    each = cvxpy.reshape(logits.weight @ columns + logits.constant, (len(labels), -1), order="C")
    correct = cvxpy.multiply(np.eye(each.shape[1])[labels], each)
    loss = (cvxpy.sum(cvxpy.log_sum_exp(each, axis=1)) - cvxpy.sum(correct)) / len(labels)
    objective = program.loss_weight * loss + columns[program.largest]
    return cvxpy.Problem(cvxpy.Minimize(objective), [rows >= 0, equations == 0])


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
