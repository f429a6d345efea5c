"""The published table as markdown, out of the run that logged it, or out of a new one.

    python -m benchmarks.reproduce --run_id <the run on top>
    python -m benchmarks.reproduce [--name value ...]

Without `run_id` runs `python -m flows reproduce` with the words given, and prints its table.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from flows import tracking
from flows.entry_points import entry_point
from flows.errors import FlowError
from flows.stages.published import MARKDOWN
from flows.words import settings_of, words_of


def main(arguments: Sequence[str]) -> int:
    """Print the table; 1 where the flow failed, 2 for an error that the caller can mend."""
    words = list(arguments)
    run_id = ""
    if "--run_id" in words[:-1]:
        place = words.index("--run_id")
        run_id = words[place + 1]
        del words[place : place + 2]
    try:
        uri = tracking.store_uri(settings_of(words_of(entry_point("reproduce"), words)).tracking_uri)
        run_id = run_id or _run(words)
        if not run_id:
            return 1
        tracking.require_store(uri, f"run_id={run_id}")
        with tracking.downloaded(tracking.find_run(uri, run_id), MARKDOWN) as path:
            print(path.read_text(), end="")
    except FlowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _run(words: Sequence[str]) -> str:
    """The run on top of a new table; empty where the flow failed."""
    command = [sys.executable, "-m", "flows", "reproduce", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    if done.returncode or " run " not in last:
        print(f"failed: {' '.join(command)}", file=sys.stderr)
        return ""
    return last.split(" run ", 1)[1].split()[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
