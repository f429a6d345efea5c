"""Solver process: one integer program after the other, read from standard input, answered on a pipe of its own.

Run as a script, never imported: it loads the solver and numpy alone, so that it starts in a fraction of a second, and a
crash in the solver ends this process and nothing else. It ends by itself when whoever started it is gone.
"""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import sys
import threading
import time
from typing import Any

import numpy as np

POLL = 0.2  # seconds between two looks at whether the parent still lives
FEASIBLE = 2  # HiGHS's kSolutionStatusFeasible


def serve() -> None:
    """Answer requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C belongs to the parent, whose end is ours
    solve = {"highspy": by_highs, "pyscipopt": by_scip}[sys.argv[3]]
    solver, answers = importlib.import_module(sys.argv[3]), os.fdopen(int(sys.argv[1]), "wb")
    threading.Thread(target=_end_with, args=(int(sys.argv[2]),), daemon=True).start()
    while True:
        try:
            request = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        answer = pickle.dumps(solve(solver, request))
        answers.write(len(answer).to_bytes(8, "little") + answer)
        answers.flush()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL)
    os._exit(1)


def by_highs(highspy: Any, request: dict[str, Any]) -> dict[str, Any]:
    """What HiGHS says of an integer program, in the program's own order of columns."""
    highs = highspy.Highs()
    highs.resetGlobalScheduler(True)  # HiGHS refuses to run with another number of threads than the run before
    for option, value in request["options"].items():
        highs.setOptionValue(option, value)
    highs.setOptionValue("time_limit", max(request["end"] - time.monotonic(), 0.0))
    columns, whole = len(request["costs"]), request["whole"]
    highs.addVars(columns, request["lower"], request["upper"])
    highs.changeColsCost(columns, np.arange(columns, dtype=np.int32), request["costs"])
    highs.changeColsIntegrality(len(whole), whole, np.full(len(whole), highspy.HighsVarType.kInteger))
    for low, high, starts, indices, values in request["rows"]:
        status = highs.addRows(len(low), low, high, len(values), starts, indices, values)
        if status == highspy.HighsStatus.kError:
            return {"status": "refused rows"}
    highs.run()
    if highs.getModelStatus() == highspy.HighsModelStatus.kInfeasible and request["options"].get("presolve") != "off":
        # Presolve of HiGHS 1.15.1 calls feasible programs infeasible: its word is taken once it is said without.
        highs.clearSolver()
        highs.setOptionValue("presolve", "off")
        highs.setOptionValue("time_limit", max(request["end"] - time.monotonic(), 0.0))
        highs.run()
    info = highs.getInfo()
    feasible = info.primal_solution_status == FEASIBLE
    return {
        "status": highs.getModelStatus().name,
        "words": highs.modelStatusToString(highs.getModelStatus()),
        "bound": float(info.mip_dual_bound),
        "feasible": feasible,
        "point": np.array(highs.getSolution().col_value) if feasible else None,
        "residual": float(info.max_primal_infeasibility),
    }


def by_scip(pyscipopt: Any, request: dict[str, Any]) -> dict[str, Any]:
    """What SCIP says of an integer program in an LP file, by the names of its columns."""
    scip = pyscipopt.Model()
    scip.hideOutput()
    scip.readProblem(request["path"])
    for option, value in request["options"].items():
        scip.setParam(option, value)
    scip.setParam("limits/time", max(request["end"] - time.monotonic(), 0.0))
    scip.setParam("limits/gap", request["gap"])
    scip.optimizeNogil()
    best = scip.getBestSol() if scip.getNSols() else None
    return {
        "status": scip.getStatus(),
        "values": None if best is None else {column.name: best[column] for column in scip.getVars()},
        "bound": float(scip.getDualbound()),
        "infinite": float(scip.infinity()),
    }


if __name__ == "__main__":
    serve()
