"""Modules that are not plain: named with the module to give, or with the call that makes them plain."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from tracing import Untraceable, require_plain, trace

IMAGES = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def plain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


def changed(change: Callable[[nn.Module], object]) -> nn.Module:
    model = plain()
    change(model[1])
    return model


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "wrapped",
    [lambda m: torch.compile(m, backend="eager"), nn.DataParallel, torch.optim.swa_utils.AveragedModel],
    ids=["compiled", "data parallel", "averaged"],
)
def test_a_wrapper_is_refused_with_the_module_that_it_holds(wrapped: Callable[[nn.Module], nn.Module]) -> None:
    model = wrapped(plain())
    with pytest.raises(Untraceable, match=r"give model\.(_orig_mod|module)$") as refusal:
        trace(model, IMAGES)
    require_plain(eval(str(refusal.value).rpartition("give ")[2], {"model": model}))


def test_a_wrapper_inside_is_refused_with_its_place() -> None:
    model = plain()
    model[1] = torch.compile(model[1], backend="eager")  # type: ignore[assignment]
    with pytest.raises(Untraceable, match=r"'1' of the model .* give model\.get_submodule\('1'\)\._orig_mod in its"):
        trace(model, IMAGES)


PRUNE = torch.nn.utils.prune
CHANGES = {
    "parametrised": torch.nn.utils.parametrizations.weight_norm,
    "spectral": torch.nn.utils.parametrizations.spectral_norm,
    "old weight norm": torch.nn.utils.weight_norm,
    "old spectral norm": torch.nn.utils.spectral_norm,
    "masked": lambda layer: PRUNE.l1_unstructured(layer, "weight", 0.3),
    "masked bias": lambda layer: PRUNE.l1_unstructured(layer, "bias", 0.3),
    "masked twice": lambda layer: [PRUNE.l1_unstructured(layer, "weight", 0.3) for _ in range(2)],
}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("change", CHANGES)
def test_computed_weights_are_refused_with_a_call_that_helps_and_changes_no_output(change: str) -> None:
    model = changed(CHANGES[change])
    model(IMAGES)
    with pytest.raises(Untraceable, match=r"'1' of the model has its '?\w+'? .*: call torch") as refusal:
        trace(model, IMAGES)
    expected = model.eval()(IMAGES)
    eval(str(refusal.value).rpartition("call ")[2], {"torch": torch, "model": model})
    torch.testing.assert_close(model(IMAGES), expected)
    assert not trace(model, IMAGES).failure


def test_other_modules_without_readable_layers_are_refused() -> None:
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(3)).eval()
    with pytest.raises(Untraceable, match="'1' of the model has a 'weight' without a shape yet: call the model once"):
        trace(lazy, IMAGES)
    with torch.device("meta"):
        meta = plain()
    with pytest.raises(Untraceable, match="'1' of the model has 'weight' on the meta device"):
        trace(meta, IMAGES)
    kept = plain()
    kept[1].seen = kept(IMAGES)
    with pytest.raises(Untraceable, match=r"keeps the computed tensor 'seen'.* set model\.get_submodule\('1'\)\.seen"):
        trace(kept, IMAGES)
    kept[1].seen, kept[1].all_seen = None, {"logits": [kept(IMAGES)]}
    with pytest.raises(Untraceable, match="keeps the computed tensor 'all_seen'"):
        trace(kept, IMAGES)
    with pytest.raises(Untraceable, match=r"the model is a OrderedDict: give a torch\.nn\.Module"):
        require_plain(plain().state_dict())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_scripted_and_exported_programs_are_refused() -> None:
    with pytest.raises(Untraceable, match=r"torch\.jit module"):
        trace(torch.jit.trace(plain(), IMAGES), IMAGES)
    with pytest.raises(Untraceable, match="exported program, which has no layers"):
        require_plain(torch.export.export(plain(), (IMAGES,)).module())


def test_a_subclass_with_its_parents_forward_is_that_layer() -> None:
    class Dense(nn.Linear):
        def reset_parameters(self) -> None:
            nn.init.orthogonal_(self.weight)

    class Doubled(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(input)

    graph = trace(nn.Sequential(nn.Flatten(), Dense(16, 8), nn.ReLU(), Doubled(8, 3)).eval(), IMAGES)
    assert [node.target for node in graph.nodes if node.layer is not None] == ["0", "1", "2"]
