"""Networks of several data sets with one body: shared hidden layers and an output layer each, trained at once.

A step takes a batch of every data set, and the sum of their mean cross-entropies is descended.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import torch
from torch import nn
from torch.nn.functional import cross_entropy

import training
from training import Dataset


def train_shared(model: str, datasets: Mapping[str, Dataset], *, epochs: int, seed: int) -> dict[str, nn.Module]:
    """A trained network for each data set; all hold the same hidden layers.

    Args:
        model: a name that `training.build` knows.
        datasets: by name, of one shape of images.
        epochs: of Adam at rate 1e-3, with 64 images of each data set a step; an epoch ends with the shortest of them.
        seed: of the weights and of the order of the images.
    """
    networks = shared_networks(model, datasets, seed=seed)
    parameters = {id(each): each for network in networks.values() for each in network.parameters()}
    optimiser = torch.optim.Adam(parameters.values(), lr=1e-3)
    draw = torch.Generator().manual_seed(seed)
    for epoch in range(1, epochs + 1):
        for network in networks.values():
            network.train()
        orders = [torch.split(torch.randperm(len(each.train), generator=draw), 64) for each in datasets.values()]
        for rows in zip(*orders, strict=False):
            parts = zip(datasets.values(), networks.values(), rows, strict=True)
            loss = sum(
                (cross_entropy(net(data.train.images[own]), data.train.labels[own]) for data, net, own in parts),
                torch.zeros(()),
            )
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
        for name, network in networks.items():
            found = training.evaluate(network.eval(), datasets[name].validation).accuracy
            print(f"shared {model}, epoch {epoch}: {name} {100 * found:.2f} %", file=sys.stderr, flush=True)
    return networks


def shared_networks(model: str, datasets: Mapping[str, Dataset], *, seed: int) -> dict[str, nn.Module]:
    """Networks with the same hidden layers, untrained.

    Args:
        model, datasets, seed: as for `train_shared`.
    """
    made: dict[str, nn.Module] = {}
    for name, data in datasets.items():
        network = training.build(model, input_shape=data.input_shape, classes=len(data.classes), seed=seed)
        body = next(iter(made.values()), network)
        for child, part in list(body.named_children())[:-1]:
            setattr(network, child, part)
        made[name] = network.eval()
    return made
