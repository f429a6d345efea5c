"""The published table as markdown, out of the run that logged it, or out of a new one.

    python -m benchmarks.reproduce --run_id <the run on top>
    python -m benchmarks.reproduce [--name value ...]

Without `run_id` runs `python -m flows reproduce` with the words given, and prints its table.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.flow_commands import run_of_command
from flows import tracking
from flows.config.command_line import settings_of, words_of
from flows.config.entry_points import entry_point
from flows.errors import FlowError
from flows.stages.experiments.published import MARKDOWN


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
        run_id = run_id or run_of_command("reproduce", words)
        if not run_id:
            return 1
        tracking.require_store(uri, f"run_id={run_id}")
        with tracking.find_run(uri, run_id).opened(MARKDOWN) as path:
            print(path.read_text(), end="")
    except FlowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
