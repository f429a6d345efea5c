"""The flows as Prefect deployments: one parameter per setting, with its type, its default and its line of help.

`flows.pipelines.deployments.<entry point>` is a flow of the same name as the one in :mod:`flows.pipelines.flows` and
does the same. That one takes settings that have been checked, this one what a form or `prefect deployment run --param`
gives it.
"""

import inspect
import signal
from functools import cache
from typing import Annotated, Any
from uuid import UUID

from prefect import Flow, get_client
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Cancelled, Crashed, Failed

from flows import tracking
from flows.config import ENTRY_POINTS, EntryPoint, Settings, description_of, settings_of
from flows.errors import SettingsError
from flows.execution import MENDABLE, one_line, run_interruptibly, send_log_lines, services_of, vanishing
from flows.pipelines.flows import FLOWS
from flows.pipelines.preparation import prepare_flow
from flows.prefect_server import SECONDS
from flows.redaction import is_secret, redacted

AS_BEFORE = "; empty: as in the earlier run"


def deployed_flow(point: EntryPoint) -> Flow[..., Any]:
    """The flow of an entry point with a parameter for every setting that it takes.

    Cancelled, it ends its MLflow runs as KILLED and its process. What a person can mend is the message of its failed
    state, in one line.
    """

    def run(**values: object) -> str | State[Any]:
        return run_deployed(point, values)

    run.__name__ = run.__qualname__ = point.name
    words = [f"    {name}: {_help(point, name)}" for name in point.accepted]
    run.__doc__ = "\n".join([point.summary, "", "Args:", *words])
    vars(run)["__signature__"] = inspect.Signature([_parameter(point, name) for name in point.accepted])
    # The settings check themselves, with messages that name the remedy.
    return Flow(run, name=point.name, description=point.summary, validate_parameters=False)


def run_deployed(point: EntryPoint, values: dict[str, object]) -> str | State[Any]:
    """Run an entry point inside the Prefect run that is its own; the id of the MLflow run on top, or a failed state."""
    send_log_lines()
    try:
        _require_no_secret(values)
        # An empty field of a form arrives as None: left out.
        settings = prepare_flow(
            point, {name: value for name, value in values.items() if value is not None}, all_given=True
        )
        body = FLOWS[point.name].fn
        uri = tracking.store_uri(settings.tracking_uri)
        # SIGTERM stays with Prefect, which tells a cancellation from a crash by its own handler being there.
        with vanishing(services_of(settings)):
            return run_interruptibly(lambda: body(settings), uri, [signal.SIGINT], report_stop)
    except MENDABLE as error:
        return Failed(message=one_line(error))


def _require_no_secret(values: dict[str, object]) -> None:
    uri = str(values.get("tracking_uri") or "")
    if is_secret(uri):
        raise SettingsError(
            f"tracking_uri={redacted(uri)}: Prefect shows the parameters of its runs to everybody, this one's secret "
            f"too: change the secret, and set MLFLOW_TRACKING_URI where the worker runs instead"
        )


def report_stop() -> None:
    """Tell the Prefect server that this process was told to stop, and ends without a word from Prefect's engine.

    The worker would say so too, but only after it has imported the whole project to look for hooks.
    """
    number = UUID(flow_run.get_id())
    with get_client(httpx_settings={"timeout": SECONDS}, sync_client=True) as client:
        state = client.read_flow_run(number).state
        stopped = Cancelled if state and state.is_cancelling() else Crashed
        client.set_flow_run_state(number, stopped(message="stopped: every open MLflow run has been ended as KILLED"))


def _parameter(point: EntryPoint, name: str) -> inspect.Parameter:
    field = Settings.model_fields[name]
    kind: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    default = inspect.Parameter.empty if name == "run_id" else getattr(settings_of(point.defaults), name)
    if name not in point.own:
        kind, default = kind | None, None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)


def _help(point: EntryPoint, name: str) -> str:
    return f"{description_of(name, point)}{'' if name in point.own else AS_BEFORE}"


OFFERED = tuple(name for name in ENTRY_POINTS if name in FLOWS)


@cache
def offered_flow(name: str) -> Flow[..., Any]:
    """The deployed flow of an entry point, made when it is first asked for: all of them take most of a second."""
    return deployed_flow(ENTRY_POINTS[name])


def __getattr__(name: str) -> Flow[..., Any]:
    """A deployed flow as an attribute of the module, as which Prefect looks it up."""
    if name not in OFFERED:
        raise AttributeError(f"module {__name__!r} has no flow {name!r}")
    return offered_flow(name)
