"""Scoring by the squared error: brute force, torch's derivatives and other solvers agree; bad targets are a line."""

from __future__ import annotations

from dataclasses import replace

import highspy
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, minimize
from torch import Tensor, nn

import formulation
from formulation import (
    CheckFailed,
    InvalidImages,
    InvalidModel,
    InvalidSetting,
    ScoreSettings,
    Solution,
    check,
    explain,
    prove_bound,
    score,
)
from formulation.duality.loss_duals import constants, exact_constants, given_of, slopes
from formulation.relaxation.loss import image_losses, slope

SQUARED = ScoreSettings(loss="squared", loss_weight=2.0, gap=1e-7, break_ties=False)
TOLERANCE = 1e-6


def regression(seed: int, *, outputs: int = 1, images: int = 6, act: type[nn.Module] = nn.ReLU) -> tuple:
    """A small network, images [n, 3], and targets near its own outputs."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), act(), nn.Linear(4, 3), act(), nn.Linear(3, outputs)).double().eval()
    with torch.no_grad():
        for part in model:
            if isinstance(part, nn.Linear):
                part.weight.mul_(2.0)
        pixels = torch.rand(images, 3, dtype=torch.float64)
        targets = model(pixels) + 0.1 * torch.randn(images, outputs, dtype=torch.float64)
    return model, pixels, targets


def first_order(model: nn.Module, pixels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Outputs [n, outputs] and their derivatives [n, outputs, 7] by gates behind the activations, by torch."""

    def gated(gates: Tensor) -> Tensor:
        x = model[1](model[0](pixels)) * gates[:4]
        return model[4](model[3](model[2](x)) * gates[4:])

    ones = torch.ones(7, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(gated, ones)
    return gated(ones).detach().numpy(), jacobian.numpy()


def objective(model: nn.Module, pixels: Tensor, targets: Tensor, asked: ScoreSettings) -> tuple:
    """The program's objective as a function of all scores, and its smooth part's derivatives; written anew."""
    outputs, jacobian = first_order(model, pixels)
    wanted = targets.numpy().reshape(outputs.shape)

    def error(s: np.ndarray) -> float:
        return float(np.mean((outputs + jacobian @ (s - 1) - wanted) ** 2))

    def sparsity(s: np.ndarray) -> float:
        return max((s[:4].sum() - 8) / 4, (s[4:].sum() - 6) / 3)  # the n - 1 largest of n = 2 layers' terms

    return (lambda s: asked.loss_weight * error(s) + sparsity(s)), error


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("act", [nn.ReLU, nn.GELU])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_optimum_is_that_of_another_solver_of_quadratic_programs(seed: int, outputs: int, act) -> None:
    model, pixels, targets = regression(seed, outputs=outputs, act=act)
    found = score(model, pixels, targets, SQUARED)
    assert found.certificate.status == "optimal"
    whole, error = objective(model, pixels, targets, SQUARED)
    scores = np.concatenate(list(found.scores.values()))
    assert found.certificate.objective == pytest.approx(whole(scores), abs=1e-9)
    assert found.certificate.cross_entropy == pytest.approx(error(scores), abs=1e-9)
    # smooth: the largest layer term as a variable of its own
    rows = np.zeros((2, 8))
    rows[0, :4], rows[1, 4:7], rows[:, 7] = -1 / 4, -1 / 3, 1.0
    other = minimize(
        lambda x: SQUARED.loss_weight * error(x[:7]) + x[7],
        np.append(np.ones(7), -1.0),
        method="SLSQP",
        bounds=[(0, 1)] * 7 + [(None, None)],
        constraints=[LinearConstraint(rows, lb=[-2, -2])],
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert found.certificate.objective == pytest.approx(other.fun, abs=2e-5)
    assert found.certificate.bound <= other.fun + TOLERANCE


@pytest.mark.parametrize("seed", range(3))
def test_no_mask_of_a_tiny_network_beats_the_best_integer_scores(seed: int) -> None:
    model, pixels, targets = regression(seed)
    asked = replace(SQUARED, integer_scores=True)
    found = score(model, pixels, targets, asked)
    whole, _ = objective(model, pixels, targets, asked)
    every = [whole(np.array([(mask >> j) & 1 for j in range(7)], dtype=float)) for mask in range(2**7)]
    assert found.certificate.objective == pytest.approx(min(every), abs=TOLERANCE)
    assert found.certificate.bound <= min(every) + TOLERANCE


def test_both_ways_to_derivatives_have_one_solution_and_the_check_repeats_what_is_proved() -> None:
    model, pixels, targets = regression(4, outputs=2)
    lowered, gated = (
        score(model, pixels, targets, replace(SQUARED, derivatives=way)) for way in ("lowering", "autograd")
    )
    assert lowered.certificate.objective == pytest.approx(gated.certificate.objective, abs=TOLERANCE)
    for found in (lowered, gated):
        verdict = check(model, pixels, targets, found, exact=True)
        assert verdict.exact_bound == pytest.approx(found.certificate.bound, abs=1e-6)
        assert verdict.exact_bound <= found.certificate.bound + 1e-12
        proved = prove_bound(model, pixels, targets, found)
        assert proved == pytest.approx(found.certificate.proved_bound, abs=1e-9)


def test_any_slopes_prove_a_bound_and_altered_solutions_are_refused(tmp_path) -> None:
    model, pixels, targets = regression(5)
    found = score(model, pixels, targets, SQUARED)
    assert found.dual_bound is not None
    rng = np.random.default_rng(0)
    for _ in range(20):
        wild = replace(found.dual_bound, probabilities=rng.normal(0, 2, found.dual_bound.probabilities.shape))
        proved = prove_bound(model, pixels, targets, replace(found, dual_bound=wild))
        assert proved <= found.certificate.objective + 1e-9
    moved = {name: np.clip(values - 0.1, 0, 1) for name, values in found.scores.items()}
    with pytest.raises(CheckFailed):
        check(model, pixels, targets, replace(found, scores=moved))
    with pytest.raises(formulation.InvalidSolution):
        check(model, pixels, targets + 1e-3, found)
    again = Solution.load(found.save(tmp_path))
    assert check(model, pixels, targets, again).objective == pytest.approx(found.certificate.objective)


def test_what_holds_a_unit_up_is_an_image_without_a_class() -> None:
    model, pixels, targets = regression(1)
    found = score(model, pixels, targets, replace(SQUARED, loss_weight=20.0))
    pulls = explain(model, pixels, targets, found)
    assert pulls
    assert all(each.label == -1 for each in pulls if each.kind == "image")


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 4))
def test_its_derivative_is_that_of_differences_and_every_affine_function_lies_below_it(
    seed: int, outputs: int, images: int
) -> None:
    rng = np.random.default_rng(seed)
    o, z, a = rng.normal(size=(outputs, images)), rng.normal(size=(images, outputs)), rng.normal(size=(outputs, images))
    mean = torch.nn.functional.mse_loss(torch.as_tensor(o.T), torch.as_tensor(z))
    assert image_losses(o, z, "squared").mean() == pytest.approx(float(mean), rel=1e-12)
    for c in range(outputs):
        step = np.zeros_like(o)
        step[c] = 1e-6
        differences = (image_losses(o + step, z, "squared") - image_losses(o - step, z, "squared")) / 2e-6
        np.testing.assert_allclose(slope(o, z, "squared")[c], differences, atol=1e-7)
    below = constants(a, z, "squared") + float((a * o).sum())
    assert below <= image_losses(o, z, "squared").sum() + 1e-9
    touching = slope(o, z, "squared")
    at = constants(touching, z, "squared") + float((touching * o).sum())
    assert at == pytest.approx(image_losses(o, z, "squared").sum(), abs=1e-9)
    assert float(exact_constants(a, z)) == pytest.approx(constants(a, z, "squared"), rel=1e-12)
    np.testing.assert_array_equal(slopes(given_of(a.copy(), z, "squared"), z, "squared"), a)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda z: z.long(), "targets are int64"),
        (lambda z: z.float().where(torch.arange(6)[:, None] != 2, torch.nan), "the target of image 2 is NaN"),
        (lambda z: z[:4], "6 images but targets of shape"),
        (lambda z: z.repeat(1, 3), "targets have 3 numbers per image, and the network 1 outputs"),
        (lambda z: None, "labels are missing"),
        (lambda z: z[:, :, None], "6 images but targets of shape"),
    ],
)
def test_bad_targets_are_one_line(spoil, said: str) -> None:
    model, pixels, targets = regression(0)
    with pytest.raises(InvalidImages, match=said) as caught:
        score(model, pixels, spoil(targets), SQUARED)
    assert "\n" not in str(caught.value)


def test_ranges_and_the_program_for_other_solvers_are_of_the_same_program() -> None:
    model, pixels, targets = regression(3)
    found = score(model, pixels, targets, SQUARED)
    ranges = formulation.score_ranges(model, pixels, targets, found)
    for layer, (low, high) in ranges.items():
        assert (low <= found.scores[layer] + TOLERANCE).all()
        assert (high >= found.scores[layer] - TOLERANCE).all()
    program = formulation.linopy_program(model, pixels, targets, SQUARED)
    program.solve("highs", output_flag=False)
    assert program.objective.value == pytest.approx(found.certificate.bound, abs=1e-5)


def test_a_loader_of_targets_is_read_whole() -> None:
    model, pixels, targets = regression(0)
    loader = [(pixels[:4], targets[:4]), (pixels[4:], targets[4:])]
    whole, read = score(model, pixels, targets.reshape(-1), SQUARED), score(model, loader, None, SQUARED)
    assert whole.certificate.objective == read.certificate.objective


@pytest.mark.parametrize("gate", ["published", "pattern", "exact"])
def test_other_gates_are_refused_with_the_one_that_takes_it(gate: str) -> None:
    with pytest.raises(InvalidSetting, match="set gate='linear'"):
        ScoreSettings(loss="squared", gate=gate, relax=gate != "exact")


def test_lifted_cuts_are_of_the_cross_entropy() -> None:
    with pytest.raises(InvalidSetting, match="set cuts='tangent'"):
        ScoreSettings(loss="squared", cuts="lifted")


@pytest.mark.parametrize("last", [nn.Softmax(1), nn.LogSoftmax(1)])
def test_a_softmax_at_the_end_is_not_left_out_in_silence(last: nn.Module) -> None:
    model, pixels, _ = regression(0, outputs=2)
    with pytest.raises(InvalidModel, match="ends in a softmax"):
        score(nn.Sequential(*model, last).eval(), pixels, torch.rand(6, 2), SQUARED)


def test_one_output_with_classes_is_told_of_the_squared_loss() -> None:
    model, pixels, _ = regression(0)
    with pytest.raises(InvalidModel, match="loss='squared'"):
        score(model, pixels, torch.zeros(6, dtype=torch.long), replace(SQUARED, loss="cross_entropy"))


def test_a_solver_by_its_own_quadratic_program_agrees() -> None:
    """HiGHS on the same program with the squares written out, no cuts."""
    model, pixels, targets = regression(2, outputs=2)
    found = score(model, pixels, targets, SQUARED)
    outputs, jacobian = first_order(model, pixels)
    slopes_, rest = jacobian.reshape(-1, 7), (outputs - targets.numpy()).ravel() - jacobian.reshape(-1, 7).sum(1)
    weight = SQUARED.loss_weight / len(rest)
    hessian, linear = 2 * weight * slopes_.T @ slopes_, 2 * weight * slopes_.T @ rest
    highs = highspy.Highs()
    highs.silent()
    infinity = highspy.kHighsInf
    for j in range(7):
        highs.addVar(0.0, 1.0)
        highs.changeColCost(j, float(linear[j]))
    highs.addVar(-infinity, infinity)
    highs.changeColCost(7, 1.0)
    for first, last, width in ((0, 4, 4), (4, 7, 3)):
        columns = [*range(first, last), 7]
        highs.addRow(-2.0, infinity, len(columns), columns, [*[-1 / width] * width, 1.0])
    lower = np.tril(np.pad(hessian, (0, 1)))
    starts, index, value = [], [], []
    for j in range(8):
        starts.append(len(index))
        for i in np.flatnonzero(lower[:, j]):
            index.append(int(i))
            value.append(float(lower[i, j]))
    highs.passHessian(8, len(value), 1, np.array(starts), np.array(index), np.array(value))
    highs.run()
    optimum = highs.getInfo().objective_function_value + weight * float(rest @ rest)
    assert found.certificate.objective == pytest.approx(optimum, abs=TOLERANCE)
