"""The project's own tests, as the entry point `test` runs them."""

import os
import subprocess
import sys

from flows.checkout import require_checkout
from flows.config import Settings

QUICK = ("-m", "not slow and not real_data")
MOST = 8  # processes, each with torch and a Prefect server


def run_suite(settings: Settings) -> int:
    """Run pytest; its exit code. Raises FlowError where the flows are installed without their tests."""
    root = require_checkout("the suite of tests")
    # Without the run that `mlflow run` has opened: tests open theirs in stores of their own.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    chosen = QUICK if settings.suite == "quick" else ()
    # A file stays in one process, whose runs its tests share; those of the flows come first, being the longest.
    # One more than there are cores: flows in processes of their own wait for servers and time limits.
    spread = ("-n", str(min((os.cpu_count() or 1) + 1, MOST)), "--dist", "loadfile", "--no-loadscope-reorder")
    command = [sys.executable, "-m", "pytest", *spread, "--durations=25", "--durations-min=10", *chosen]
    return subprocess.run(command, cwd=root, env={"OMP_NUM_THREADS": "1", **outside}, check=False).returncode
