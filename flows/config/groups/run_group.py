"""Settings of a run: what it continues, the machine, where things are kept, and the checks."""

from typing import Annotated, Literal

from pydantic import Field, field_serializer

from flows.config.groups.setting_kinds import NEVER, PLACE, NotEmpty, SettingsGroup, Threads, Traits
from flows.redaction import redacted


class ContinuingSettings(SettingsGroup):
    """Run to continue."""

    run_id: Annotated[str, Traits(title=NEVER)] = Field(
        "", description="MLflow run to continue from: a stage's own, or the one above it"
    )


class CheckSettings(SettingsGroup):
    """Check."""

    exact: Annotated[bool, Traits(later=True)] = Field(
        False, description="check: compute the bound that duals prove with outward rounding too"
    )


class MachineSettings(SettingsGroup):
    """Machine."""

    seed: Annotated[int, Field(ge=0, lt=2**32), Traits(title=4, report=True, identity=True)] = Field(
        0, description="seed of split, initial weights, draws, batches"
    )
    device: Annotated[Literal["auto", "cpu", "cuda"], Traits(role="machine")] = Field(
        "auto", description="auto takes cuda where there is one"
    )
    threads: Annotated[Threads, Traits(role="machine")] = Field(1, description="threads of torch and of each solver")


class StoreSettings(SettingsGroup):
    """Cache and tracking store."""

    cache: Annotated[str, PLACE] = Field(
        "", description="folder of finished work, taken over where the same is asked for again; none: keep nothing"
    )
    tracking_uri: Annotated[str, PLACE] = Field(
        "",
        repr=False,
        description="MLflow store; empty: $MLFLOW_TRACKING_URI, else mlflow.db in the project's folder, or where "
        "it is installed in the one it is started in",
    )
    experiment: Annotated[NotEmpty, PLACE] = Field(
        "critical-neurons", description="MLflow experiment, where `mlflow run` has not chosen one"
    )
    allow_pickle: Annotated[bool, Traits(role="place", later=True)] = Field(
        False,
        description="load models that were saved as pickles, which may run any code; never taken from a run",
    )

    system_metrics: Annotated[bool, Traits(role="place", later=True)] = Field(
        False, description="log what the machine's processors, memory, disks and network did meanwhile"
    )

    @field_serializer("tracking_uri")
    def _without_secrets(self, value: str) -> str:
        """An address is logged, stored and sent as it may be shown; whoever goes on names the store by itself."""
        return redacted(value)


class RegistrySettings(SettingsGroup):
    """Model registry."""

    # `register` alone is a method of every pydantic class.
    register_as: Annotated[str, Traits(role="place", later=True)] = Field(
        "", description="name in the MLflow model registry that the final network is a new version of; empty: of none"
    )
    champion_rule: Annotated[Literal["accuracy", "multiply_adds"], Traits(role="place", later=True)] = Field(
        "accuracy",
        description="what the alias champion goes by: accuracy (on validation images), or multiply_adds, fewer of them "
        "at an accuracy within champion_tolerance",
    )
    champion_tolerance: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False), Traits(role="place", later=True)] = (
        Field(0.5, description="points of validation accuracy that a champion of fewer multiply-adds may be below")
    )


class SuiteSettings(SettingsGroup):
    """Test suite."""

    suite: Literal["quick", "all"] = Field("quick", description="quick, or all: with slow and real-data tests")


class RunPart(SuiteSettings, StoreSettings, MachineSettings, RegistrySettings, CheckSettings, ContinuingSettings):
    """Everything about the run itself."""
