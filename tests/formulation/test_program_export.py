"""The program as a file and as a linopy model: other solvers find the certificate's bound in it."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import highspy
import pytest

import formulation
from formulation import (
    InvalidSetting,
    SolverFailed,
    TimeLimitReached,
    linopy_program,
    score,
    write_program,
)
from formulation.network import MaxPool
from formulation.relaxation.loss import GROUPS
from formulation.solve.search import Search
from tests.formulation.cases import conv_pool, dense, max_pooled
from tests.formulation.paper_settings import paper_settings
from tests.formulation.required import require_installed

PROGRAMS = {
    "relaxed": (conv_pool(), paper_settings(radius=0.05, gap=1e-6)),
    "integer": (dense(0, hidden=(8, 6)), paper_settings(radius=0.1, relax=False, gap=1e-6)),
    "lifted": (dense(1), paper_settings(gate="pattern", radius=0.0, cuts="lifted", gap=1e-6)),
}


def optimum_by_highs(path: Path, _folder: Path) -> float:
    highs = highspy.Highs()
    highs.silent()
    highs.setOptionValue("mip_rel_gap", 1e-9)
    assert highs.readModel(str(path)) == highspy.HighsStatus.kOk
    highs.run()
    return float(highs.getInfo().objective_function_value)


def optimum_by_cbc(path: Path, folder: Path) -> float:
    answer = folder / "answer"
    subprocess.run(["cbc", "-import", path, "-solve", "-solu", answer, "-quit"], check=True, capture_output=True)
    found = re.match(r"Optimal - objective value (\S+)", answer.read_text())
    assert found
    return float(found[1])


def optimum_by_glpk(path: Path, folder: Path) -> float:
    answer, form = folder / "answer", "--lp" if path.suffix == ".lp" else "--freemps"
    subprocess.run(["glpsol", form, path, "--write", answer], check=True, capture_output=True)
    found = re.search(r"^s .* (\S+)$", answer.read_text(), re.MULTILINE)
    assert found
    return float(found[1])


OPTIMUM = {"highs": optimum_by_highs, "cbc": optimum_by_cbc, "glpk": optimum_by_glpk}


@pytest.mark.parametrize("suffix", [".lp", ".mps"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_other_solvers_find_the_certificates_bound_in_the_file(
    name: str, suffix: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    case, settings = PROGRAMS[name]
    bound = score(case.model, case.images, case.labels, settings).certificate.bound
    path = write_program(case.model, case.images, case.labels, settings, tmp_path / "made" / f"program{suffix}")
    assert capfd.readouterr().out == ""
    assert list((tmp_path / "made").iterdir()) == [path]
    for solver, optimum in OPTIMUM.items():
        require_installed(solver)
        # GLPK keeps rows to 1e-6 of its own scaling, which nothing can tighten
        tolerance = 1e-5 if solver == "glpk" else 1e-6
        assert optimum(path, tmp_path) == pytest.approx(bound, abs=tolerance)


def test_names_in_the_file_say_what_they_are(tmp_path: Path) -> None:
    case, settings = PROGRAMS["integer"]
    for suffix in (".lp", ".mps"):
        text = write_program(case.model, case.images, case.labels, settings, tmp_path / f"p{suffix}").read_text()
        assert "score_1(0)#0" in text
        assert "theta(0)#" in text
        assert "hidden_4(0)#" in text
        assert "open_4(0)#" in text


def test_a_file_that_is_there_is_replaced(tmp_path: Path) -> None:
    case, settings = PROGRAMS["lifted"]
    path = tmp_path / "program.lp"
    path.write_text("something else")
    write_program(case.model, case.images, case.labels, settings, str(path))
    assert path.read_text().startswith("min")


def test_the_linopy_model_has_the_same_optimum() -> None:
    case, settings = PROGRAMS["relaxed"]
    bound = score(case.model, case.images, case.labels, settings).certificate.bound
    model = linopy_program(case.model, case.images, case.labels, settings)
    model.solve(solver_name="highs", output_flag=False)
    assert model.objective.value == pytest.approx(bound, abs=1e-6)
    assert {"score_0", "score_3", "theta"} <= set(model.variables)


@pytest.mark.parametrize("name", ["program.txt", "program", "program.LP", "lp"])
def test_another_suffix_is_refused_before_any_work(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=rf"written as \.lp or \.mps, found '{name}'"):
        write_program(None, None, None, paper_settings(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_search_that_ends_by_its_rounds_gives_no_program(name: str, tmp_path: Path) -> None:
    case, settings = PROGRAMS[name]
    few = replace(settings, max_rounds=2)
    with pytest.raises(SolverFailed, match=r"round_limit after 2 rounds .* gap of .*; raise max_rounds") as refusal:
        write_program(case.model, case.images, case.labels, few, tmp_path / "made" / "program.lp")
    assert len(str(refusal.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_search_out_of_time_gives_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    case, settings = PROGRAMS["relaxed"]
    monkeypatch.setattr(Search, "remaining", lambda search: 1.0 if len(search.rounds) < 2 else -1.0)
    with pytest.raises(TimeLimitReached, match=r"before the program was complete, at a relative gap of .*time_limit"):
        linopy_program(case.model, case.images, case.labels, settings)


def test_a_path_that_cannot_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "folder.lp").mkdir()
    (tmp_path / "file").write_text("")
    for path, says in {
        tmp_path / "folder.lp": "is a folder",
        tmp_path / "file" / "deeper" / "program.mps": "file' is a file",
        None: "path=None is no path",
    }.items():
        with pytest.raises(InvalidSetting, match=says) as refusal:
            write_program(None, None, None, paper_settings(), path)
        assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize(("cuts", "images"), [("tangent", 3), ("tangent", 60), ("lifted", 60)])
def test_the_columns_are_those_that_the_readme_counts(cuts: str, images: int) -> None:
    """1 + members per unstable window, one per image or group of images, 1 + layers for the sparsity term."""
    case = max_pooled(1, images=images)
    settings = paper_settings(radius=0.05, gap=0.3, cuts=cuts)
    reduction = case.reduction(settings)
    model = linopy_program(case.model, case.images, case.labels, settings)
    sizes = {name: variable.size for name, variable in model.variables.items()}
    unstable = {name: 0 for part in reduction.batches for name in part.unstable}
    windows, classes = 0, reduction.network.classes
    for part in reduction.batches:
        for name, columns in part.unstable.items():
            pool = isinstance(reduction.network.node(name).op, MaxPool)
            unstable[name] += columns.count
            windows += len(columns) if pool else 0
    groups = images if cuts == "lifted" else min(images, GROUPS)
    mass = images * classes if cuts == "lifted" else 0
    assert windows
    counted = reduction.scores + sum(unstable.values()) + groups + mass + 1 + len(reduction.network.layers)
    assert sum(sizes.values()) == counted
    for name, count in unstable.items():
        made = [sizes.get(f"{what}_{name}", 0) for what in ("hidden", "open", "out", "pick")]
        assert sum(made) == count
        assert made[0] == made[1]


def test_the_types_of_public_signatures_are_public() -> None:
    assert {"DualBound", "Masks", "Unstable"} <= set(formulation.__all__)
    assert all(hasattr(formulation, name) for name in formulation.__all__)
