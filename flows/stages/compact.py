"""Compacting: the pruned network with smaller layers, equal to the one it was made from, and what that saves."""

import logging
from collections.abc import Mapping
from dataclasses import asdict

import torch
from torch import Tensor, nn

import training
from flows import figures, handover, tracking
from flows.errors import CompactRefused
from flows.settings import Settings
from flows.tracking import Run
from flows.translation import dataset_of, device_of, exports_of
from training import Cost, Dataset

LOG = logging.getLogger(__name__)
RANDOM_IMAGES = 1000
TOLERANCE = 1e-5  # of the outputs' scale: roundings in float32 stay below, a wrong cut is far larger
BATCHES = (1, 64)
SECONDS = 0.3  # for measuring each network and batch
COUNTED = ("parameters", "multiply_adds", "file_bytes")


def compact_network(settings: Settings, run: Run, source: Run) -> None:
    """Compact the network of a prune, retrain or gradual run under its masks; leaves it, its costs and the exports.

    Raises MaskError and UnsupportedGraph where it cannot be compacted, CompactRefused where the outputs are not those
    of the run's network, ExportError.
    """
    dataset = dataset_of(settings)
    network, masks = handover.load_network(source, settings, dataset), handover.load_masks(source)
    example = dataset.test.images[:1]
    compacted = training.compact(network, masks, example)
    with training.torch_threads(settings.threads):
        _log_differences(settings, run, network, compacted, dataset)
    handover.save_compacted(run, compacted, masks, settings, dataset)
    # From here on the network as it was logged.
    compacted = handover.load_compacted(run, settings, dataset)
    device = device_of(settings)
    with training.torch_threads(settings.threads):
        test = training.evaluate(compacted, dataset.test, batch_size=settings.batch_size, device=device)
    tracking.log_metrics(run, {"test_accuracy": test.accuracy, "test_loss": test.loss})
    LOG.info("compact  test accuracy %.2f %%", 100 * test.accuracy)
    _log_costs(
        run,
        *training.costs(
            *(network, compacted, masks, example),
            batches=BATCHES,
            seconds=SECONDS,
            threads=settings.threads,
            device=device,
        ),
    )
    # Last, because a network that other runtimes cannot hold has been compacted all the same.
    with training.torch_threads(settings.threads):
        _log_exports(settings, run, compacted, example)


def compaction_in_words(metrics: Mapping[str, float]) -> str:
    """What the metrics of a compact run come to, in a sentence; empty without metrics."""
    if not metrics:
        return ""
    largest = max(metrics["difference.random"], metrics["difference.test"])
    latencies = " and ".join(f"{100 * metrics[f'latency_ratio.batch_{batch}']:.0f} %" for batch in BATCHES)
    return (
        f"Compacted: {100 * metrics['parameters_ratio']:.1f} % of the parameters, "
        f"{100 * metrics['multiply_adds_ratio']:.1f} % of the multiply-adds and "
        f"{100 * metrics['file_bytes_ratio']:.1f} % of the file stay, and of the seconds for a batch of "
        f"{' and of '.join(map(str, BATCHES))} images {latencies}; its outputs "
        + (f"differ by at most {largest:.2g} of their scale." if largest else "are the same to the last bit.")
    )


def _log_differences(settings: Settings, run: Run, network: nn.Module, compacted: nn.Module, dataset: Dataset) -> None:
    """Compare the two networks' outputs, on the CPU: a graphics card may round to ten bits on its way."""
    generator = torch.Generator().manual_seed(settings.seed)
    random = torch.rand(RANDOM_IMAGES, *dataset.input_shape, generator=generator)
    differences = {}
    for name, images in (("random", random), ("test", dataset.test.images)):
        expected, found = (training.predict(each, images) for each in (network, compacted))
        differences[name] = float((expected - found).abs().max() / expected.abs().max().clamp(min=1))
        tracking.log_metrics(run, {f"difference.{name}": differences[name]})
        # Not `>`, which a NaN passes.
        if not differences[name] <= TOLERANCE:
            raise CompactRefused(
                f"the compacted network's outputs differ by {differences[name]:.1e} of their scale on {len(images)} "
                f"{name} images, allowed are {TOLERANCE:.0e}: prune again, its masks are not those of its weights"
            )
    LOG.info(
        "compact  largest difference to the masked network: %.2g of the outputs' scale on %d random, %.2g on %d test "
        "images",
        *(differences["random"], RANDOM_IMAGES, differences["test"], len(dataset.test)),
    )


def _log_costs(run: Run, dense: Cost, compacted: Cost) -> None:
    ratios = {name: getattr(compacted, name) / getattr(dense, name) for name in COUNTED}
    pairs = list(zip(BATCHES, dense.latencies, compacted.latencies, strict=True))
    medians = {f"batch_{batch}": after.median / before.median for batch, before, after in pairs}
    tails = {f"batch_{batch}": after.p95 / before.p95 for batch, before, after in pairs}
    tracking.log_json(
        run,
        {
            "threads": dense.latencies[0].threads,
            "dense": asdict(dense),
            "compacted": asdict(compacted),
            "ratio": {**ratios, "latency_median": medians, "latency_p95": tails},
        },
        "costs.json",
    )
    tracking.log_metrics(
        run,
        {
            **{name: getattr(compacted, name) for name in COUNTED},
            **{f"latency_median.batch_{batch}": after.median for batch, _, after in pairs},
            **{f"latency_p95.batch_{batch}": after.p95 for batch, _, after in pairs},
            **{f"{name}_ratio": ratio for name, ratio in ratios.items()},
            **{f"latency_ratio.{batch}": ratio for batch, ratio in medians.items()},
            **{f"latency_p95_ratio.{batch}": ratio for batch, ratio in tails.items()},
        },
    )
    latencies = {f"latency, batch of {batch}": medians[f"batch_{batch}"] for batch in BATCHES}
    shares = dict(zip(("parameters", "multiply-adds", "file"), ratios.values(), strict=True))
    tracking.log_figure(run, figures.share_figure({**shares, **latencies}), "costs.png")
    LOG.info("compact  parameters %.3f and file %.3f of the dense network's", shares["parameters"], shares["file"])
    LOG.info(
        "compact  latency %s of the dense network's, beside multiply-adds %.3f",
        ", ".join(f"{medians[f'batch_{batch}']:.3f} (batch of {batch})" for batch in BATCHES),
        shares["multiply-adds"],
    )


def _log_exports(settings: Settings, run: Run, compacted: nn.Module, example: Tensor) -> None:
    for kind in exports_of(settings):
        exported = handover.save_export(run, kind, compacted, example)
        difference, size = exported.max_difference, exported.file_bytes
        tracking.log_metrics(run, {f"export_difference.{kind}": difference, f"export_bytes.{kind}": size})
        LOG.info("compact  exported to %s: %d bytes, largest difference %.2g", handover.EXPORTS[kind], size, difference)
