"""The model registry: new versions of a name, and the alias of the best of them."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from flows.errors import StoreError
from flows.redaction import reason_of
from flows.tracking.logged_run import Run
from flows.tracking.stores import reached, shown

CHAMPION = "champion"
VERSIONS_TAG = "mlflow.modelVersions"  # on a model: MLflow's own list of its versions
VALIDATION, COST, DATA = "validation_accuracy", "multiply_adds", "dataset"
MISSING, TAKEN = "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS"


@dataclass(frozen=True)
class Candidate:
    """A network that is to be a version of a name.

    Attributes:
        name: in the registry.
        model_uri: the address of the MLflow model, `models:/<model id>`.
        description: in Markdown.
        tags: its figures as text: those of `VALIDATION` (a share) and `COST` decide, and `DATA` says on which images.
    """

    name: str
    model_uri: str
    description: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Verdict:
    """Whether a candidate takes the champion's place, and why."""

    better: bool
    why: str


def judged(candidate: Mapping[str, str], champion: Mapping[str, str] | None, rule: str, tolerance: float) -> Verdict:
    """Compare a candidate with the champion, if there is one, by their tags.

    Args:
        candidate: its tags.
        champion: those of the present champion; None: there is none.
        rule: `accuracy`: higher validation accuracy; `multiply_adds`: fewer multiply-adds, at a validation accuracy
            that is lower by no more than the tolerance.
        tolerance: in points, hundredths of a share.

    Returns:
        The verdict. Equals stay behind, and so does whoever was measured on other data or whose figures are missing.
    """
    if champion is None:
        return Verdict(True, "there was none")
    if champion.get(DATA) != candidate[DATA]:
        return Verdict(False, f"that one is of {champion.get(DATA, 'unknown data')}, not of {candidate[DATA]}")
    before, now = ({name: _number(each.get(name)) for name in (VALIDATION, COST)} for each in (champion, candidate))
    if missing := [name for name, value in before.items() if math.isnan(value)]:
        return Verdict(False, f"that one has no figure {' and '.join(missing)} to compare with")
    points = 100 * (now[VALIDATION] - before[VALIDATION])
    words = f"validation accuracy {100 * now[VALIDATION]:.2f} % against {100 * before[VALIDATION]:.2f} %"
    if rule == "accuracy":
        return Verdict(points > 0, words)
    words = f"{now[COST]:,.0f} multiply-adds against {before[COST]:,.0f}, {words}, {tolerance:g} points allowed"
    return Verdict(now[COST] < before[COST] and points >= -tolerance, words)


def require_registry(uri: str, name: str) -> None:
    """Raise StoreError where the store has no model registry, or none that takes such a name; nothing is written."""
    try:
        MlflowClient(uri).get_registered_model(name)
    except MlflowException as error:
        if error.error_code != MISSING:
            raise StoreError(
                f"register_as={name}: the model registry of {shown(uri)} refuses it: {reason_of(error, uri)}"
            ) from error


def register_network(run: Run, candidate: Candidate, rule: str, tolerance: float) -> str:
    """Register a run's model as a version of a name, once, and make it the champion where it is better.

    Args:
        run: the run that logged the model.
        candidate: what is registered.
        rule, tolerance: as of :func:`judged`.

    Returns:
        A line that says what was done, and why.

    Raises:
        StoreError: the store does not answer, or refuses.
    """
    name = candidate.name
    with reached(run.uri) as client:
        version = _version(client, run, candidate)
        champion = client.get_registered_model(name).aliases.get(CHAMPION)
        what = f"{name} version {version.version}"
        if str(champion) == str(version.version):
            return f"{what} is the {CHAMPION} already"
        present = None if champion is None else client.get_model_version(name, champion).tags
        verdict = judged(candidate.tags, present, rule, tolerance)
        if verdict.better:
            client.set_registered_model_alias(name, CHAMPION, version.version)
            was = "" if champion is None else f" in place of version {champion}"
            return f"{what} registered, and made {CHAMPION}{was}: {verdict.why} (champion_rule={rule})"
        return f"{what} registered; the {CHAMPION} stays version {champion}: {verdict.why} (champion_rule={rule})"


def _version(client: MlflowClient, run: Run, candidate: Candidate) -> ModelVersion:
    """The version that a run has registered before, or a new one; the UI finds it from the model as well."""
    try:
        client.create_registered_model(candidate.name)
    except MlflowException as error:
        if error.error_code != TAKEN:
            raise
    model_id = candidate.model_uri.rpartition("/")[2]
    found = client.search_model_versions(f"name='{candidate.name}' and run_id='{run.run_id}'")
    # The registry looks the model up by MLflow's own address of the store.
    mlflow.set_tracking_uri(run.uri)
    version = found[0] if found else _new_version(client, run, candidate, model_id)
    listed = json.loads(client.get_logged_model(model_id).tags.get(VERSIONS_TAG, "[]"))
    own = {"name": candidate.name, "version": version.version}
    if own not in listed:
        client.set_logged_model_tags(model_id, {VERSIONS_TAG: json.dumps([*listed, own])})
    return version


def _new_version(client: MlflowClient, run: Run, candidate: Candidate, model_id: str) -> ModelVersion:
    return client.create_model_version(
        candidate.name,
        candidate.model_uri,
        run_id=run.run_id,
        tags=dict(candidate.tags),
        description=candidate.description,
        model_id=model_id,
    )


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
