"""CBC and GLPK, programs of their own: linopy writes the program, they write their answer, nothing is left behind.

linopy runs them too, but reads six digits of GLPK's answer, takes any way in which CBC stops early for a failure, and
looks at no exit code.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from formulation.errors import InvalidSetting, SolverCrashed, SolverFailed, SolverUnavailable
from formulation.network import Array
from formulation.score_settings import ScoreSettings
from formulation.solve.program import Program
from formulation.solve.solvers.options import refusals, spelt
from formulation.solve.solvers.through_linopy import LinopySession, Told, infeasible

GRACE = 0.02  # of its time limit: what a program may pass it by before it is killed
LEAST_GRACE = 1.0  # s: it writes its answer after its own limit, and GLPK counts whole seconds
HEADROOM = 0.03  # of the time limit, a second at most: a program is told that much less, so that it can still answer
LATE = 0.9  # of the time limit
TOLERANCE = 1e-9
CBC_SLACK = 2e-8  # relative: the increment that CBC prunes by, and its eight digits
CBC_LOGGED = 1e-3  # CBC logs the bound of an unfinished search to three digits
GLPK_SLACK = 2.5e-7  # relative: GLPK gives up nodes that are better by less than 1e-7 (1 + |objective|)


@dataclass(frozen=True)
class ProcessEnd:
    """What a process left: the written answer (empty where there is none), its log, and how its time was spent.

    `late`: its time limit had (all but) passed when it ended; `killed`: it had to be ended.
    """

    answer: str
    log: str
    late: bool
    killed: bool


class CommandLineSession(LinopySession):
    """A solver that is run once per round."""

    program_name = ""

    def __init__(self, program: Program, settings: ScoreSettings) -> None:
        super().__init__(program, settings)
        if shutil.which(self.program_name) is None:
            raise SolverUnavailable(f"solver '{self.name}': no program '{self.program_name}' is on PATH; install it")

    def _command(self, path: Path, answer: Path, time_limit: float, gap: float) -> list[str]:
        raise NotImplementedError

    def _read(self, ended: ProcessEnd, text: str, matrices: Any, gap: float) -> Told:
        raise NotImplementedError

    def ask_solver(self, matrices: Any, time_limit: float, gap: float) -> Told:
        with tempfile.TemporaryDirectory(prefix=self.name) as folder:
            path, answer = Path(folder) / "program.lp", Path(folder) / "answer"
            self._program.model.to_file(path, progress=False)
            told = time_limit - min(HEADROOM * time_limit, 1.0)
            ended = run_executable(self.name, self._command(path, answer, told, gap), answer, time_limit)
            text = path.read_text()
        if ended.killed:
            return Told(None, -np.inf, complete=False)
        try:
            return self._read(ended, text, matrices, gap)
        except (ValueError, IndexError) as error:
            first = ended.answer.splitlines()[0][:60] if ended.answer.strip() else "nothing"
            raise SolverFailed(
                f"{self.name} wrote an answer that cannot be read ({first!r}: {' '.join(str(error).split())[:80]}); "
                "try another solver"
            ) from error

    def _ended(self, log: str) -> SolverFailed:
        """The error for an end that is neither an optimum nor a time limit."""
        return SolverFailed(f"{self.name} ended with '{last_line(log)}'; try other solver_options or another solver")


class CbcSession(CommandLineSession):
    """CBC: eight digits of its answer, and the bound of its log where the time limit came first."""

    program_name = "cbc"

    @staticmethod
    def _own_version(solver: str) -> str:
        return printed_version(["cbc", "-quit"], r"Version: (\S+)")

    def _command(self, path: Path, answer: Path, time_limit: float, gap: float) -> list[str]:
        options = {"primalTolerance": TOLERANCE, "dualTolerance": TOLERANCE} | dict(self._settings.solver_options)
        limits = {"timeMode": "elapsed", "sec": time_limit, "increment": TOLERANCE, "ratioGap": gap}
        threads = {"threads": self._settings.threads} if self._settings.threads > 1 else {}
        words = [word for name, value in (options | limits | threads).items() for word in (f"-{name}", spelt(value))]
        return ["cbc", *words, "-import", str(path), "-printingOptions", "all", "-solve", "-solu", str(answer), "-quit"]

    def _read(self, ended: ProcessEnd, text: str, matrices: Any, gap: float) -> Told:
        refused = refusals(ended.log)
        if refused:
            raise InvalidSetting(f"cbc takes a solver option otherwise: {refused[0]}; look at its manual")
        status, *lines = ended.answer.splitlines() or [""]
        found = re.fullmatch(r"(Optimal|Stopped|Infeasible|Integer infeasible|Unbounded).* value (\S+)", status.strip())
        if found is None:
            raise ValueError(status[:60] or "an empty file")
        # out of time, CBC may call a program infeasible (or solved), and a linear one out of iterations
        late = ended.late or status.startswith("Stopped on time")
        if "nfeasible" in status and not late:
            raise infeasible(self.name)
        complete, objective = found[1] == "Optimal" and not (late and self._whole), float(found[2])
        if not complete and not late:
            raise self._ended(status)
        rows, columns = self._values(lines, matrices)
        if complete:
            # a fraction of the larger of objective and bound, by CBC's own measure
            slack = CBC_SLACK + ((gap / (1 - gap) if gap < 1 else np.inf) if self._whole else 0.0)
            return Told(columns, objective - slack * max(1.0, abs(objective)), True, rows)
        if not self._whole:
            return Told(None, -np.inf, False)
        logged = re.findall(r"^Lower bound:\s+(\S+)", ended.log, re.MULTILINE)
        rooted = "Continuous objective value is" in ended.log  # before that its bound is no bound
        bound = float(logged[-1]) - CBC_LOGGED if logged and rooted else -np.inf
        # a search that stopped without a solution writes the relaxation's point
        has_point = found[1] in ("Optimal", "Stopped") and "no integer solution" not in status
        return Told(columns if has_point else None, bound, False)

    def _values(self, lines: list[str], matrices: Any) -> tuple[Array, Array]:
        """Duals of the rows and values of the columns; a line reads: number, name, value, dual."""
        words = [line.replace("**", " ").split() for line in lines]
        table = {word[1]: (float(word[2]), float(word[3])) for word in words if word}
        duals = [table[f"c{label}"][1] for label in matrices.clabels.tolist() if f"c{label}" in table]
        values = [table[f"x{label}"][0] for label in matrices.vlabels.tolist() if f"x{label}" in table]
        if len(duals) != len(matrices.clabels) or len(values) != len(matrices.vlabels):
            raise ValueError(f"{len(values)} of {len(matrices.vlabels)} columns")
        return np.array(duals, dtype=float), np.array(values, dtype=float)


class GlpkSession(CommandLineSession):
    """GLPK: fifteen digits from its plain format, and the bound of its log where the time limit came first."""

    program_name = "glpsol"

    @staticmethod
    def _own_version(solver: str) -> str:
        return printed_version(["glpsol", "--version"], r"Solver (\S+)")

    def _command(self, path: Path, answer: Path, time_limit: float, gap: float) -> list[str]:
        words = ["glpsol", "--lp", str(path), "--write", str(answer), "--tmlim", str(max(1, int(time_limit)))]
        if self._whole:
            words += ["--mipgap", spelt(gap)]
        for name, value in self._settings.solver_options.items():
            words += [f"--{name}"] if value is True else [f"--{name}", spelt(value)]
        return words

    def _read(self, ended: ProcessEnd, text: str, matrices: Any, gap: float) -> Told:
        if re.search(r"NO (PRIMAL |INTEGER )?FEASIBLE SOLUTION", ended.log):
            raise infeasible(self.name)
        late = "TIME LIMIT EXCEEDED" in ended.log
        lines = [line.split() for line in ended.answer.splitlines() if line[:1] in ("s", "i", "j")]
        kind, *status = lines[0][1], *lines[0][4:-1]
        objective = float(lines[0][-1])
        # a basic solution is optimal where primal and dual are feasible
        optimal = status in (["f", "f"], ["o"]) or "RELATIVE MIP GAP TOLERANCE REACHED" in ended.log
        complete = optimal and not late
        if not complete and not late:
            raise self._ended(ended.log)
        value = {"bas": 3, "ipt": 2, "mip": 2}[kind]
        rows = [float(line[value + 1]) for line in lines if line[0] == "i"] if kind != "mip" else None
        columns = [float(line[value]) for line in lines if line[0] == "j"]
        values = in_file_order(text, "x", columns, matrices.vlabels)
        if complete:
            duals = None if rows is None else in_file_order(text, "c", rows, matrices.clabels)
            slack = gap + GLPK_SLACK if self._whole else 0.0
            return Told(values, objective - slack * max(1.0, abs(objective)), True, duals)
        if not self._whole:
            return Told(None, -np.inf, False)
        logged = [float(each) for each in re.findall(r">=\s+(-?\d\.\d+e[+-]\d+)", ended.log)]
        bound = logged[-1] - GLPK_SLACK * max(1.0, abs(logged[-1])) if logged else -np.inf
        return Told(values if status == ["f"] else None, bound, False)


def run_executable(name: str, command: list[str], answer: Path, time_limit: float) -> ProcessEnd:
    """Run a solver in its own process, which is killed when it passes its time limit by `GRACE`.

    Raises:
        SolverUnavailable: it cannot be started.
        SolverCrashed: it died by a signal: a crash, or somebody else's kill.
        SolverFailed: it ended with an exit code of its own.
    """
    log, started = answer.with_name("log"), time.perf_counter()
    with log.open("wb") as sink:  # no pipe: whoever inherits one could hold us up after the kill
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, cwd=answer.parent
            )
        except OSError as error:
            raise SolverUnavailable(f"solver '{name}' cannot be started ({error}); install it again") from error
        try:
            process.wait(time_limit + max(LEAST_GRACE, GRACE * time_limit))
        except subprocess.TimeoutExpired:
            return ProcessEnd("", "", late=True, killed=True)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    said = log.read_text(errors="replace")
    if process.returncode < 0 or process.returncode > 128:
        signal = -process.returncode if process.returncode < 0 else process.returncode - 128
        raise SolverCrashed(
            f"{name} died by signal {signal} before it answered; look at the memory, or try another solver"
        )
    if process.returncode:
        raise SolverFailed(
            f"{name} ended with exit code {process.returncode}: {last_line(said)}; look at solver_options"
        )
    late = time.perf_counter() - started >= LATE * time_limit
    return ProcessEnd(answer.read_text(errors="replace") if answer.exists() else "", said, late, killed=False)


def last_line(text: str) -> str:
    """The last line that says something."""
    return next((line.strip()[:120] for line in reversed(text.splitlines()) if line.strip()), "no word")


def in_file_order(text: str, prefix: str, values: list[float], labels: Any) -> Array:
    """Values that stand in the order in which names first appear in an LP file, in the order of linopy's labels."""
    seen = dict.fromkeys(int(label) for label in re.findall(rf"\b{prefix}(\d+)\b", text))
    if len(seen) != len(values) or not np.isfinite(values).all():
        raise ValueError(f"{len(values)} of {len(seen)} {'columns' if prefix == 'x' else 'rows'}")
    by_label = dict(zip(seen, values, strict=True))
    return np.array([by_label[label] for label in labels.tolist()], dtype=float)


def printed_version(command: list[str], pattern: str) -> str:
    """The version that a program prints."""
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return "unknown"
    found = re.search(pattern, said)
    return found[1] if found else "unknown"
