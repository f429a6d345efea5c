"""Flows run by their command, as a person runs them, and the lines of tables that show the metrics of their runs."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence

# The defaults of the flows until scores agreed between scoring sets; pages that were measured then say so.
FORMER_DEFAULTS: Mapping[str, str] = {
    **{"gate": "pattern", "loss_weight": "5", "images_per_class": "5", "scoring_sets": "3", "selection": "threshold"},
}


def run_of_command(flow: str, options: Sequence[str]) -> str:
    """The id of the run that `python -m flows <flow> <options>` comes to, what it says going to stderr.

    Empty, after a word on stderr, where the flow fails.
    """
    command = [sys.executable, "-m", "flows", flow, *options]
    last = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            sys.stderr.write(line)
            last = line.strip() or last
    if process.returncode or " run " not in last:
        print(f"failed: {' '.join(command)}", file=sys.stderr)
        return ""
    return last.split(" run ", 1)[1].split()[0]


def options_of(words: Mapping[str, str]) -> list[str]:
    """Parameters as options of a command."""
    return [part for name, value in words.items() for part in (f"--{name}", value)]


def named(word: str) -> tuple[str, str]:
    """A parameter written name=value; raises argparse's error."""
    name, equals, value = word.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{word!r} has no value: write name=value")
    return name, value


def head_of(first: str, columns: Mapping[str, str]) -> tuple[str, str]:
    """A table's first two lines; they are printed before there is any other, so no library writes the table."""
    return f"| {first} | {' | '.join(columns)} |", f"|{'---|' * (len(columns) + 1)}"


def row_of(name: str, columns: Mapping[str, str], metrics: Mapping[str, float]) -> str:
    """A table's line for the metrics of a run, in the forms of its columns; all but seconds are shown in %."""
    shown = {key: value if key.startswith("seconds") else 100 * value for key, value in metrics.items()}
    return f"| {name} | {' | '.join(form.format_map(shown) for form in columns.values())} |"
