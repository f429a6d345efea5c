"""Completion of the command line in bash: a script made from the flows and the settings."""

from __future__ import annotations

from collections.abc import Sequence

from flows.config.descriptions import choices_of
from flows.config.entry_points import COMMANDS
from flows.config.settings import Settings
from flows.errors import SettingsError

PROGRAM = "critical-neurons"
SCRIPT = """\
_critical_neurons() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} words=
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="{flows} --help --version --completion"
    else
        case $before in
{choices}
        --*) ;;
        *) case ${{COMP_WORDS[1]}} in
{settings}
            esac ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _critical_neurons {program}"""


def completion_of(words: Sequence[str]) -> str:
    """The script that completes flows, settings and their choices; files where anything may stand.

    Args:
        words: what stands behind `--completion`: the shell's name, which is bash.

    Raises:
        SettingsError: no shell or another one is named.
    """
    if list(words) != ["bash"]:
        raise SettingsError(f'--completion takes the name of a shell, bash: eval "$({PROGRAM} --completion bash)"')
    choices = {name: choices_of(name) for name in Settings.model_fields}
    return SCRIPT.format(
        program=PROGRAM,
        flows=" ".join(COMMANDS),
        choices="\n".join(
            f'        --{name}) words="{" ".join(values)}" ;;' for name, values in choices.items() if values
        ),
        settings="\n".join(
            f'            {point.name}) words="{" ".join(f"--{name}" for name in (*point.accepted, "help"))}" ;;'
            for point in COMMANDS.values()
        ),
    )
