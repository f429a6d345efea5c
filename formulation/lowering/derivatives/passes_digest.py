"""Digest of the passes through a traced module with gates, over all that its passes depend on."""

from __future__ import annotations

import hashlib

from formulation.lowering.derivatives.gated_units import GatedUnits
from tracing import Graph


def digest_of_passes(graph: Graph, units: GatedUnits, shape: tuple[int, ...]) -> str:
    """SHA-256 over the calls, the layers, their weights and plain attributes, and the gates.

    Args:
        graph: of the module as it was read.
        units: which have gates, and where these act.
        shape: of one image.
    """
    sha = hashlib.sha256(f"{graph.module.code}{graph.module}{shape}".encode())
    for name, value in sorted(graph.module.state_dict().items()):
        sha.update(f"{name}{tuple(value.shape)}".encode() + value.detach().contiguous().numpy().tobytes())
    for name, layer in graph.module.named_modules():
        plain = {key: held for key, held in vars(layer).items() if key != "training" and _plain(held)}
        sha.update(f"{name}{sorted(plain.items())}".encode())
    for source, places in units.places.items():
        for place in places:
            readers = sorted(node.name for node in place.readers)
            sha.update(f"{source.name}{place.axis}{readers}".encode() + place.gate.tobytes())
    return sha.hexdigest()


def _plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(_plain(each) for each in value)
    return value is None or isinstance(value, int | float | str)
