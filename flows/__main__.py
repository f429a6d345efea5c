"""`python -m flows <flow> --name value ...`: the command line of every flow."""

import sys
from collections.abc import Sequence

from flows.entry_points import SERVE, entry_point
from flows.errors import FlowError
from flows.words import help_of, overview, settings_of, words_of

HELP = ("-h", "--help")


def main(arguments: Sequence[str]) -> int:
    """Run the named flow; 0, 1 for failing tests, 2 for an error the caller can mend, 130 after Ctrl-C."""
    if not arguments or arguments[0] in HELP:
        print(overview())
        return 0
    try:
        point = entry_point(arguments[0])
        if any(word in HELP for word in arguments[1:]):
            print(help_of(point))
            return 0
        words = words_of(point, arguments[1:])
        settings = settings_of(words)
    except FlowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    # torch, MLflow and Prefect take seconds to import: help and a wrong parameter need none of them.
    if point.name == "test":
        from flows.suite import run_suite

        return run_suite(settings)
    from flows.server import reach_server, require_server

    try:
        if point is SERVE:
            require_server()
        reach_server()
    except FlowError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if point is SERVE:
        from flows.serving import serve_flows

        return serve_flows()
    from flows.launch import launch

    return launch(point, words)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
