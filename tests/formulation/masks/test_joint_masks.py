"""One mask for several data sets: against enumeration and the program of one, its certificate, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formulation import CheckFailed, InvalidImages, InvalidModel, InvalidSetting, InvalidSolution, UnsupportedLayer
from formulation.masks import (
    MaskBudget,
    MaskData,
    MaskSettings,
    MaskSolution,
    check_joint_mask,
    check_mask,
    choose_joint_mask,
    choose_mask,
)
from formulation.masks.inner_problem.joint_problem import JointProblem, Over
from tests.formulation.cases import Case, dense
from tests.formulation.masks.planted import admitted, problem_of

ONE, OTHER = dense(31, hidden=(5, 4), images=12), dense(7, hidden=(5, 4), classes=4, images=9)
FIRST, SECOND = ONE.gates
BUDGET = MaskBudget(counts={FIRST: 2, SECOND: 2})
NEAR = MaskSettings(temperature=2.0, refit_weight=0.1, gap=1e-3, nodes=500, time_limit=240.0)
WEIGHTS = np.array([1.0, 0.3])


def data_set(name: str, case: Case, weight: float = 1.0) -> MaskData:
    return MaskData(name, case.model, case.images, case.labels, weight)


DATA = (data_set("one", ONE), data_set("other", OTHER, 0.3))
PROBLEMS = tuple(problem_of(case, "softened", 0.1) for case in (ONE, OTHER))


def joint(over: Over) -> JointProblem:
    return JointProblem(("one", "other"), PROBLEMS, WEIGHTS, over)


@pytest.fixture(scope="module", params=["mean", "worst"])
def solution(request: pytest.FixtureRequest) -> MaskSolution:
    return choose_joint_mask(DATA, BUDGET, NEAR, over=request.param)


def test_no_mask_is_below_the_bound_and_the_optimum_is_that_of_all_masks(solution: MaskSolution) -> None:
    claimed = solution.certificate
    every = [
        [problem.solve(mask, 1e-9).objective for problem in PROBLEMS]
        for mask in admitted(PROBLEMS[0].expansion, BUDGET)
    ]
    weighted = np.array(every) * WEIGHTS
    optimum = (weighted.mean(axis=1) if claimed.over == "mean" else weighted.max(axis=1)).min()
    assert claimed.checked
    assert claimed.status == "optimal"
    assert claimed.bound - 1e-9 <= optimum <= claimed.objective + 1e-7
    assert claimed.objective == pytest.approx(optimum, rel=2e-3)
    together = WEIGHTS * np.array(list(claimed.objectives.values()))
    assert claimed.objective == pytest.approx(together.mean() if claimed.over == "mean" else together.max())
    check_joint_mask(DATA, solution)


@pytest.mark.parametrize("over", ["mean", "worst"])
def test_with_one_data_set_and_with_two_copies_of_it_it_is_the_program_of_one(over: Over) -> None:
    alone = choose_mask(ONE.model, ONE.images, ONE.labels, BUDGET, NEAR)
    single = choose_joint_mask([data_set("one", ONE)], BUDGET, NEAR, over=over)
    double = choose_joint_mask([data_set("one", ONE), data_set("copy", ONE)], BUDGET, NEAR, over=over)
    assert single.certificate.objective == alone.certificate.objective
    assert single.certificate.bound == alone.certificate.bound
    for made in (single, double):
        assert {k: v.tolist() for k, v in made.masks.items()} == {k: v.tolist() for k, v in alone.masks.items()}
        assert made.certificate.objective == pytest.approx(alone.certificate.objective, rel=1e-6)
        assert made.certificate.bound <= alone.certificate.objective + 1e-9
    assert set(double.certificate.objectives) == {"one", "copy"}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), over=st.sampled_from(["mean", "worst"]))
def test_cuts_of_any_duals_and_shares_lie_below_the_objective_and_the_worst_above_the_mean(
    seed: int, over: Over
) -> None:
    draw, problem = np.random.default_rng(seed), joint(over)
    scores = draw.random(len(problem.mask))
    answer = problem.solve(scores, 1e-7)
    assert answer.bound - 1e-9 <= answer.objective <= answer.bound + 1e-6
    assert max(problem.cut(duals).at(scores) for duals in problem.proofs(answer)) == pytest.approx(answer.bound)
    noise = answer.duals + draw.normal(size=answer.duals.shape)
    elsewhere = draw.random(len(problem.mask))
    there = problem.solve(elsewhere, 1e-7).objective
    for duals in (noise, answer.duals, *problem.proofs(answer)):
        assert problem.cut(duals).at(elsewhere) <= there + 1e-9
    assert joint("worst").solve(scores, 1e-7).objective >= joint("mean").solve(scores, 1e-7).objective - 1e-6


@pytest.mark.parametrize("over", ["mean", "worst"])
@pytest.mark.parametrize("which", [0, 1])
def test_enough_ends_early_and_never_below_it(over: Over, which: int) -> None:
    problem = joint(over)
    scores = np.zeros(len(problem.mask))
    scores[which::2] = 1.0
    exact = problem.solve(scores, 1e-9).objective
    early = problem.solve(scores, 1e-9, enough=exact / 2)
    assert early.objective >= exact - 1e-9
    assert early.objective >= exact / 2


def test_a_figure_that_is_better_than_it_is_and_an_altered_proof_are_refused(solution: MaskSolution) -> None:
    claimed = solution.certificate
    other = {"mean": "worst", "worst": "mean"}[claimed.over]
    for change in (
        {"objective": claimed.objective * 0.99},
        {"bound": claimed.objective * 1.01},
        {"objectives": {**claimed.objectives, "one": claimed.objectives["one"] * 0.9}},
        {"objectives": {}},
        {"over": other},
    ):
        with pytest.raises(CheckFailed):
            check_joint_mask(DATA, replace(solution, certificate=replace(claimed, **change)))
    with pytest.raises(CheckFailed, match="its duals prove"):
        check_joint_mask(DATA, replace(solution, proof=replace(solution.proof, duals=0.5 * solution.proof.duals)))
    key = next(key for key in solution.changes if key.startswith("other/"))
    with pytest.raises(CheckFailed):
        check_joint_mask(DATA, replace(solution, changes={**solution.changes, key: solution.changes[key] + 0.1}))


def test_it_is_saved_and_read_again_and_checked_by_its_own_check_alone(solution: MaskSolution, tmp_path) -> None:
    again = MaskSolution.load(solution.save(tmp_path))
    assert check_joint_mask(DATA, again).objective == pytest.approx(solution.certificate.objective)
    with pytest.raises(InvalidSolution, match="check_joint_mask"):
        check_mask(ONE.model, ONE.images, ONE.labels, again)
    alone = choose_mask(ONE.model, ONE.images, ONE.labels, BUDGET, replace(NEAR, nodes=1, swaps=0))
    with pytest.raises(InvalidSolution, match="check_mask"):
        check_joint_mask(DATA, alone)


def test_other_data_sets_than_the_certificate_names_are_refused(solution: MaskSolution) -> None:
    for data_sets, said in (
        (DATA[::-1], "other networks"),
        ((DATA[0], replace(DATA[1], weight=0.5)), "weights"),
        ((DATA[0], replace(DATA[1], name="another")), "names"),
        ((DATA[0], replace(DATA[1], images=OTHER.images.flip(0))), "images"),
    ):
        with pytest.raises(InvalidSolution, match=said):
            check_joint_mask(data_sets, solution)


def test_held_layers_are_kept_whole() -> None:
    budget, quick = MaskBudget(counts={SECOND: 2}), replace(NEAR, gap=0.05)
    made = choose_joint_mask(DATA, budget, quick, held=[FIRST])
    assert list(made.masks) == [SECOND]
    check_joint_mask(DATA, made)


def test_a_held_layer_may_be_of_another_width_in_each_data_set() -> None:
    data = (DATA[0], data_set("wide", dense(3, hidden=(5, 6), images=4)))
    made = choose_joint_mask(data, MaskBudget(counts={FIRST: 2}), replace(NEAR, gap=0.05), held=[SECOND])
    assert list(made.masks) == [FIRST]
    check_joint_mask(data, made)


@pytest.mark.parametrize("over", ["mean", "worst"])
def test_only_the_ratios_of_the_weights_count(over: Over) -> None:
    asked = replace(NEAR, gap=0.01)
    made, small = (
        choose_joint_mask([replace(each, weight=each.weight * unit) for each in DATA], BUDGET, asked, over=over)
        for unit in (1.0, 1e-6)
    )
    assert {k: v.tolist() for k, v in small.masks.items()} == {k: v.tolist() for k, v in made.masks.items()}
    assert small.certificate.objective == pytest.approx(made.certificate.objective)
    assert small.certificate.bound >= small.certificate.objective - 0.01 * small.certificate.objective - 1e-9


@pytest.mark.parametrize("weight", [np.float32(0.5), np.int64(2)])
def test_a_weight_may_be_a_number_of_numpy(weight: float) -> None:
    made = choose_joint_mask([replace(DATA[0], weight=weight)], BUDGET, replace(NEAR, nodes=1))
    check_joint_mask([replace(DATA[0], weight=float(weight))], made)


@pytest.mark.parametrize("weight", [True, np.True_, "1", np.nan])
def test_what_is_no_weight_is_refused(weight: object) -> None:
    with pytest.raises(InvalidSetting, match="out of range"):
        choose_joint_mask([replace(DATA[0], weight=weight)], BUDGET, NEAR)


def test_figures_of_a_data_set_that_is_not_there_and_what_is_no_solution_are_refused(solution: MaskSolution) -> None:
    claimed = solution.certificate
    for change in ({"objectives": {**claimed.objectives, "third": 0.1}}, {"unchanged_loss": -5.0}):
        with pytest.raises(CheckFailed, match=r"objectives|unchanged"):
            check_joint_mask(DATA, replace(solution, certificate=replace(claimed, **change)))
    with pytest.raises(InvalidSolution, match="objectives"):
        check_joint_mask(DATA, replace(solution, certificate=replace(claimed, objectives=None)))
    with pytest.raises(InvalidSolution, match="NoneType"):
        check_joint_mask(DATA, None)


def test_shares_that_add_up_to_more_than_a_number_are_refused(solution: MaskSolution) -> None:
    duals = solution.proof.duals.copy()
    duals[:, :2] = 1e308
    with pytest.raises(InvalidSolution, match="duals"):
        check_joint_mask(DATA, replace(solution, proof=replace(solution.proof, duals=duals)))


wider = dense(3, hidden=(6, 4), images=4)


@pytest.mark.parametrize(
    ("data_sets", "over", "error", "said"),
    [
        ([], "mean", InvalidSetting, r"give \[MaskData\("),
        ([ONE], "mean", InvalidSetting, r"give \[MaskData\("),
        (DATA, "median", InvalidSetting, "over='median' is unknown; use one of mean, worst"),
        ((DATA[0], DATA[0]), "mean", InvalidSetting, "'one' is empty, holds '/', or is there twice"),
        ((replace(DATA[0], name="a/b"),), "mean", InvalidSetting, "'a/b' is empty"),
        ((replace(DATA[0], weight=0.0),), "mean", InvalidSetting, "weight=0.0 of data set 'one' is out of range"),
        (
            (DATA[0], data_set("wide", wider)),
            "mean",
            InvalidModel,
            "'wide' has layers of .* 'one' of .* same layers and",
        ),
        ((DATA[0], replace(DATA[1], labels=OTHER.labels + 9)), "mean", InvalidImages, "'other': labels run from"),
        ((DATA[0], replace(DATA[1], images=OTHER.images[:0])), "worst", InvalidImages, "'other': the scoring set is"),
        ((DATA[0], replace(DATA[1], images=OTHER.images[..., :3])), "worst", UnsupportedLayer, "data set 'other': "),
    ],
)
def test_what_no_joint_program_can_be_written_for_is_one_line(data_sets, over, error, said) -> None:
    with pytest.raises(error, match=said) as refusal:
        choose_joint_mask(data_sets, BUDGET, NEAR, over=over)
    assert "\n" not in str(refusal.value)
