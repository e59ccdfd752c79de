"""All that is measured, as one plain object."""

from collections.abc import Callable, Sequence
from typing import Any

from ladseg.bench.inference import bench_inference
from ladseg.bench.loop import bench_loop
from ladseg.bench.matrix_rate import matrix_rate
from ladseg.bench.memory import bench_batches, bench_methods
from ladseg.bench.pieces import bench_pieces
from ladseg.bench.scaling import bench_growth, bench_processes, bench_switches
from ladseg.bench.setting import Setting
from ladseg.bench.steps import bench_steps
from ladseg.data.memory import keep_freed_memory
from ladseg.measure.environment import describe_environment
from ladseg.runs.preparation import Say

Results = dict[str, Any]


def bench(setting: Setting, parts: Sequence[str], say: Say) -> Results:
    """Measure.

    Args:
        setting: Networks and batches.
        parts: Of :data:`PARTS`, what to measure.
        say: Takes a line about what is measured.

    Returns:
        Plain data: ``environment``, ``setting`` and what the parts give. ``steps`` gives ``ratios``, by network the
        step of ``teacher`` and ``student`` as a multiple of the plain one, the details as ``steps``, and as
        ``matrix_rate`` the multiply-accumulates a second of this machine's matrix products; ``loop`` gives
        ``loop_overhead``, the share of time that the training loop adds to a bare one, and the details as ``loop``.
    """
    keep_freed_memory()  # as the loader of a training does
    results: Results = {
        "environment": describe_environment(),
        "setting": {
            "size": list(setting.size),
            "batch_size": setting.batch_size,
            "num_classes": setting.num_classes,
            "device": str(setting.device),
        },
    }
    for part in parts:
        results |= PARTS[part](setting, say)
    return results


def _steps(setting: Setting, say: Say) -> Results:
    rate = matrix_rate(setting)
    details = {}
    for network in setting.networks:
        say(f"training steps of {network}")
        details[network] = bench_steps(setting, network)
    ratios = {
        network: {name: spread["median"] for name, spread in row["ratios"].items()} for network, row in details.items()
    }
    return {"ratios": ratios, "matrix_rate": rate, "steps": details}


def _loop(setting: Setting, say: Say) -> Results:
    say(f"the training loop beside a bare one, {setting.networks[0]}")
    measured = bench_loop(setting)
    return {"loop_overhead": measured["overhead"]["median"], "loop": measured}


def _pieces(setting: Setting, say: Say) -> Results:
    say("noise and losses")
    return {"pieces": bench_pieces(setting)}


def _memory(setting: Setting, say: Say) -> Results:
    say(f"the step and its memory under every method, {setting.networks[0]}")
    return {"methods": bench_methods(setting), "batches": bench_batches(setting)}


def _scaling(setting: Setting, say: Say) -> Results:
    say(f"how a step's time grows, {setting.networks[0]}")
    growth = bench_growth(setting)
    say("precision, layout, compilation, processes")
    return {"growth": growth, "switches": bench_switches(setting), "processes": bench_processes(setting)}


def _inference(setting: Setting, say: Say) -> Results:
    say(f"prediction, {setting.networks[0]}")
    return {"inference": bench_inference(setting)}


# What can be measured, in the order in which it is by default.
PARTS: dict[str, Callable[[Setting, Say], Results]] = {
    "steps": _steps,
    "loop": _loop,
    "pieces": _pieces,
    "inference": _inference,
    "memory": _memory,
    "scaling": _scaling,
}
