"""Generated documents: MLproject, prefect.yaml and docs/parameters.md from the settings and the entry points.

`python -m flows.config.generate` renews them; with `--check` it only says which are stale.
"""

import sys
import textwrap
from collections.abc import Sequence

from flows.checkout import ABOVE, require_checkout
from flows.config.descriptions import REQUIRED, default_of, description_of, is_number, title_of, values_of
from flows.config.entry_points import ENTRY_POINTS, EntryPoint
from flows.config.settings import GROUPS
from flows.errors import FlowError

ROOT = ABOVE
COMMAND = "python -m flows.config.generate"
MADE = f"Made by `{COMMAND}` from flows/config/groups and flows/config/entry_points.py; a change here is lost."
WIDTH = 111  # characters of a line of MLproject
SUITE = "test"  # runs pytest, not a flow
DEPLOYMENTS = "deployments:\n"


def documents() -> dict[str, str]:
    """The text of every generated file, by its path below the project's folder."""
    return {"MLproject": _mlproject(), "prefect.yaml": _deployments(), "docs/parameters.md": _parameters()}


def stale() -> list[str]:
    """The generated files that are not what the settings and the entry points say."""
    return [file for file, text in documents().items() if not (ROOT / file).is_file() or _read(file) != text]


def generate(words: Sequence[str]) -> int:
    """Renew what is stale, or say what is; 0, 1 where `--check` finds something stale, 2 for an unknown word."""
    if words not in ([], ["--check"]):
        print(f"error: {COMMAND} takes no words but --check", file=sys.stderr)
        return 2
    try:
        require_checkout(COMMAND)
    except FlowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found = stale()
    for file in found:
        print(f"{file} is stale: {COMMAND} renews it" if words else f"renewed {file}")
        if not words:
            (ROOT / file).write_text(documents()[file], encoding="utf-8")
    return 1 if words and found else 0


def _read(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8")


def _mlproject() -> str:
    lines = [
        f"# {MADE}",
        "# MLflow does not check the types: the project does, before anything is written.",
        "name: critical-neurons",
        "conda_env: conda.yaml",
        "",
        "entry_points:",
        *(line for point in ENTRY_POINTS.values() for line in _entry_point(point)),
    ]
    return "\n".join(lines) + "\n"


def _entry_point(point: EntryPoint) -> list[str]:
    words = " ".join(f"--{name} {{{name}}}" for name in point.own)
    command = textwrap.wrap(
        f"python -m flows {point.name} {words}",
        WIDTH,
        initial_indent="      ",
        subsequent_indent="      ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [
        f"  {point.name}:",
        "    parameters:",
        *(f"      {name}: {{{_declaration(point, name)}}}" for name in point.own),
        "    command: >-",
        *command,
    ]


def _declaration(point: EntryPoint, name: str) -> str:
    default = default_of(point, name)
    if default == REQUIRED:
        return "type: string"
    if is_number(name):
        return f"type: float, default: {default}"
    return f'type: string, default: "{"" if default == "empty" else default}"'


def _deployments() -> str:
    head = _read("prefect.yaml").partition(DEPLOYMENTS)[0]
    names = [name for name in ENTRY_POINTS if name != SUITE]
    lines = [
        f"  - {{name: {each}, entrypoint: flows.pipelines.deployments.{each}, work_pool: *pool, schedules: []}}"
        for each in names
    ]
    return head + DEPLOYMENTS + "\n".join(lines) + "\n"


def _parameters() -> str:
    lines = [
        "# Parameters",
        "",
        f"<!-- {MADE} -->",
        "",
        "Every flow takes its parameters in the same words: `mlflow run . -e prune -P run_id=<id> -P tolerance=1`,",
        "`python -m flows prune --run_id <id> --tolerance 1`, a form of Prefect's UI. A flow that continues an",
        "earlier run takes what is not its own from that run. `python -m flows <flow> --help` lists those of one flow.",
    ]
    for group in GROUPS:
        lines += ["", f"## {title_of(group)}", "", "| parameter | default | values | meaning | flows |"]
        lines += ["|---|---|---|---|---|", *(_row(name) for name in group.model_fields)]
    return "\n".join(lines) + "\n"


def _row(name: str) -> str:
    takers = [point for point in ENTRY_POINTS.values() if name in point.own]
    usual = default_of(takers[0], name)
    apart = [f"{point.name}: {default_of(point, name)}" for point in takers if default_of(point, name) != usual]
    cells = (
        f"`{name}`",
        "; ".join([usual, *apart]),
        values_of(name),
        description_of(name),
        ", ".join(point.name for point in takers),
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    sys.exit(generate(sys.argv[1:]))
