"""Imports on demand: what takes seconds to import is imported by whoever needs it, when it is needed."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torchvision", "sklearn", "matplotlib", "onnx", "onnxruntime", "scipy.stats", "pyscipopt", "cvxpy")
WORKFLOW = ("mlflow", "prefect", "distributed", "sqlalchemy")
CASES = {
    "the words of the command line": ("import flows.__main__", ("torch", "numpy", "pandas", *WORKFLOW, *HEAVY)),
    "tracing": ("import tracing", ("torch._dynamo", "linopy", "pandas", *WORKFLOW, *HEAVY)),
    "formulation": ("import formulation", ("torch._dynamo", *WORKFLOW, *HEAVY)),
    "training": ("import training", ("torch._dynamo", "linopy", "pandas", *WORKFLOW, *HEAVY)),
    "the face": ("import critical_neurons", ("torch._dynamo", *WORKFLOW, *HEAVY)),
    "a flow": ("import flows.launch", ("torch._dynamo", "prefect.server.api.server", *HEAVY)),
}


@pytest.mark.parametrize("case", CASES)
def test_what_takes_seconds_to_import_is_not_imported_before_it_is_needed(case: str) -> None:
    statement, left_out = CASES[case]
    ask = f"{statement}; import sys; print(*sorted(set(sys.modules) & set({left_out!r})))"
    done = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
