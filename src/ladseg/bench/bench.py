"""Run the parts of the benchmark."""

from collections.abc import Callable, Sequence
from typing import Any

from ladseg.bench.inference import bench_inference
from ladseg.bench.loop import bench_loop
from ladseg.bench.method_steps import bench_batches, bench_methods
from ladseg.bench.pieces import bench_pieces
from ladseg.bench.scaling import bench_growth, bench_processes, bench_switches
from ladseg.bench.setting import Setting
from ladseg.bench.steps import bench_steps, matrix_rate
from ladseg.data.memory import keep_freed_memory
from ladseg.measure.environment import describe_environment
from ladseg.results import to_json
from ladseg.runs.finished import Log

Results = dict[str, Any]


def bench(setting: Setting, parts: Sequence[str], log: Log) -> Results:
    """Measure the cost of training and prediction.

    Args:
        setting: Networks and batches.
        parts: Names of the parts to measure, from :data:`PARTS`.
        log: Receives a line about each measurement.

    Returns:
        Values for JSON: ``environment``, ``setting`` and the results of the parts. ``steps`` gives ``ratios`` (for each
        network the steps of ``teacher`` and ``student`` as multiples of the plain one), the details as ``steps``, and
        ``matrix_rate``, the multiply-accumulates per second of this machine's matrix products. ``loop`` gives
        ``loop_overhead``, the share of time that the training loop adds to a bare one, and the details as ``loop``.
    """
    keep_freed_memory()  # as `ladseg train` does
    results: Results = {
        "environment": to_json(describe_environment()),
        "setting": {
            "size": list(setting.size),
            "batch_size": setting.batch_size,
            "num_classes": setting.num_classes,
            "device": str(setting.device),
        },
    }
    for part in parts:
        results |= PARTS[part](setting, log)
    return results


def _steps(setting: Setting, log: Log) -> Results:
    rate = matrix_rate(setting)
    details = {}
    for network in setting.networks:
        log(f"training steps of {network}")
        details[network] = bench_steps(setting, network)
    ratios = {
        network: {name: spread["median"] for name, spread in row["ratios"].items()} for network, row in details.items()
    }
    return {"ratios": ratios, "matrix_rate": rate, "steps": details}


def _loop(setting: Setting, log: Log) -> Results:
    log(f"the training loop beside a bare one, {setting.networks[0]}")
    measured = bench_loop(setting)
    return {"loop_overhead": measured["overhead"]["median"], "loop": measured}


def _pieces(setting: Setting, log: Log) -> Results:
    log("noise and losses")
    return {"pieces": bench_pieces(setting)}


def _memory(setting: Setting, log: Log) -> Results:
    log(f"the step and its memory under every method, {setting.networks[0]}")
    return {"methods": bench_methods(setting), "batches": bench_batches(setting)}


def _scaling(setting: Setting, log: Log) -> Results:
    log(f"how a step's time grows, {setting.networks[0]}")
    growth = bench_growth(setting)
    log("precision, layout, compilation, processes")
    return {"growth": growth, "switches": bench_switches(setting), "processes": bench_processes(setting)}


def _inference(setting: Setting, log: Log) -> Results:
    log(f"prediction, {setting.networks[0]}")
    return {"inference": bench_inference(setting)}


# The parts of the benchmark, in the default order.
PARTS: dict[str, Callable[[Setting, Log], Results]] = {
    "steps": _steps,
    "loop": _loop,
    "pieces": _pieces,
    "inference": _inference,
    "memory": _memory,
    "scaling": _scaling,
}
