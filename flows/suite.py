"""The project's own tests, as the entry point `test` runs them."""

import os
import subprocess
import sys
from pathlib import Path

from flows.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
QUICK = ("-m", "not slow and not real_data")


def run_suite(settings: Settings) -> int:
    """Run pytest; its exit code."""
    # Without the run that `mlflow run` has opened: tests open theirs in stores of their own.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    chosen = QUICK if settings.suite == "quick" else ()
    command = [sys.executable, "-m", "pytest", *chosen]
    return subprocess.run(command, cwd=ROOT, env={"OMP_NUM_THREADS": "1", **outside}, check=False).returncode
