"""Compacting: the pruned network with smaller layers, equal to the one it was made from, and what that saves."""

import logging
from collections.abc import Mapping
from dataclasses import asdict

import torch
from torch import Tensor, nn

import training
from flows.adapters import artifacts, as_text, dataset_of, device_of, exports_of, metadata_of
from flows.cache import EarlierResult, OnPart, StageResult, unheard
from flows.config import Settings
from flows.errors import CompactRefused
from flows.reporting import figures
from training import Cost, Dataset

LOG = logging.getLogger(__name__)
RANDOM_IMAGES = 1000
TOLERANCE = 1e-5  # of the outputs' scale: roundings in float32 stay below, a wrong cut is far larger
BATCHES = (1, 64)
SECONDS = 0.3  # for measuring each network and batch
COUNTED = ("parameters", "multiply_adds", "file_bytes")


def compact_network(settings: Settings, source: EarlierResult, *, on_part: OnPart = unheard) -> StageResult:
    """Compact the network of a prune, retrain or gradual run under its masks; leaves it, its costs and the exports.

    Raises MaskError and UnsupportedGraph where it cannot be compacted, CompactRefused where the outputs are not those
    of the run's network, ExportError.
    """
    result = StageResult(on_part)
    dataset = dataset_of(settings)
    network, masks = artifacts.logged_network(source, settings, dataset), artifacts.logged_masks(source)
    example = dataset.test.images[:1]
    compacted = training.compact(network, masks, example)
    with training.torch_threads(settings.threads):
        _log_differences(settings, result, network, compacted, dataset)
    artifacts.log_compacted(result, compacted, masks, settings, dataset)
    # From here on the network as it was logged.
    compacted = artifacts.logged_compacted(result, settings, dataset)
    device = device_of(settings)
    with training.torch_threads(settings.threads):
        test, validation = (
            training.evaluate(compacted, split, batch_size=settings.batch_size, device=device)
            for split in (dataset.test, dataset.validation)
        )
    result.add_metrics({"test_accuracy": test.accuracy, "test_loss": test.loss})
    result.add_metrics({"final_validation_accuracy": validation.accuracy, "final_validation_loss": validation.loss})
    LOG.info("compact  test accuracy %.2f %%", 100 * test.accuracy)
    _log_costs(
        result,
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
        _log_exports(
            settings, result, compacted, example, as_text(metadata_of(settings, dataset, masks, source.run_id))
        )
    return result


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


def _log_differences(
    settings: Settings, result: StageResult, network: nn.Module, compacted: nn.Module, dataset: Dataset
) -> None:
    """Compare the two networks' outputs, on the CPU: a graphics card may round to ten bits on its way."""
    generator = torch.Generator().manual_seed(settings.seed)
    random = torch.rand(RANDOM_IMAGES, *dataset.input_shape, generator=generator)
    differences = {}
    for name, images in (("random", random), ("test", dataset.test.images)):
        expected, found = (training.predict(each, images) for each in (network, compacted))
        differences[name] = float((expected - found).abs().max() / expected.abs().max().clamp(min=1))
        result.add_metrics({f"difference.{name}": differences[name]})
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


def _log_costs(result: StageResult, dense: Cost, compacted: Cost) -> None:
    ratios = {name: getattr(compacted, name) / getattr(dense, name) for name in COUNTED}
    pairs = list(zip(BATCHES, dense.latencies, compacted.latencies, strict=True))
    medians = {f"batch_{batch}": after.median / before.median for batch, before, after in pairs}
    tails = {f"batch_{batch}": after.p95 / before.p95 for batch, before, after in pairs}
    result.add_json(
        {
            "threads": dense.latencies[0].threads,
            "dense": asdict(dense),
            "compacted": asdict(compacted),
            "ratio": {**ratios, "latency_median": medians, "latency_p95": tails},
        },
        "costs.json",
    )
    result.add_metrics(
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
    result.add_figure(figures.share_figure({**shares, **latencies}), "costs.png")
    LOG.info("compact  parameters %.3f and file %.3f of the dense network's", shares["parameters"], shares["file"])
    LOG.info(
        "compact  latency %s of the dense network's, beside multiply-adds %.3f",
        ", ".join(f"{medians[f'batch_{batch}']:.3f} (batch of {batch})" for batch in BATCHES),
        shares["multiply-adds"],
    )


def _log_exports(
    settings: Settings, result: StageResult, compacted: nn.Module, example: Tensor, metadata: Mapping[str, str]
) -> None:
    for kind in exports_of(settings):
        exported = artifacts.log_export(result, kind, compacted, example, metadata)
        difference, size = exported.max_difference, exported.file_bytes
        result.add_metrics({f"export_difference.{kind}": difference, f"export_bytes.{kind}": size})
        LOG.info(
            "compact  exported to %s: %d bytes, largest difference %.2g", artifacts.EXPORTS[kind], size, difference
        )
