"""What the cells of a comparison say together."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy.special import stdtrit

from ladseg.comparison.costs import Costs, starts_from_baseline, total_macs
from ladseg.comparison.methods import NONE, NONE_LONG, Method
from ladseg.errors import RecipeError
from ladseg.recipe import Recipe
from ladseg.runs.networks import teacher_network

# Results of a method's runs, by seed.
Runs = Mapping[int, dict[str, Any]]
CONFIDENCE = 0.95


def summarize(
    recipe: Recipe, methods: Sequence[Method], runs: Mapping[str, Runs], costs: Costs, environment: dict[str, Any]
) -> dict[str, Any]:
    """Plain values of everything that the tables and the plot show.

    Args:
        recipe: What the methods share.
        methods: The methods, in the order of the tables.
        runs: Of each method's name, the ``results.json`` of its finished runs by seed.
        costs: Of each method.
        environment: Where it was measured.

    Returns:
        ``name``, ``student``, its ``weights``, ``layout``, ``iterations``, ``seeds``, ``environment`` and ``methods``,
        a list of dicts: ``name``; ``mean_iou`` by seed, ``mean`` and ``std`` of them, 0..1; ``difference``, the paired
        difference to ``none`` with ``mean``, ``low`` and ``high`` (95 %, Student's t), and ``against_long``, that to
        ``none-long``; ``seconds`` and ``teacher_seconds`` of the training steps, means over seeds, the latter with all
        that teacher or student start from; ``macs``, the multiply-accumulates of all training; ``step_ms``,
        ``step_memory`` in bytes; ``student`` and ``teacher`` with ``parameters`` and ``macs`` of one prediction, the
        latter with ``model`` and the ``name`` of its training too. What is not known is None.
    """
    alone, longer = ({seed: _mean_iou(run) for seed, run in runs.get(name, {}).items()} for name in (NONE, NONE_LONG))
    rows = []
    for method in methods:
        cost, finished = costs[method.name], runs[method.name]
        by_seed = {seed: _mean_iou(run) for seed, run in finished.items()}
        values = list(by_seed.values())
        rows.append(
            {
                "name": method.name,
                "mean_iou": by_seed,
                "mean": statistics.mean(values) if values else None,
                "std": statistics.stdev(values) if len(values) > 1 else None,
                "difference": None if method.name == NONE else _paired(by_seed, alone),
                "against_long": None if method.name == NONE_LONG else _paired(by_seed, longer),
                "seconds": _mean(_delivered(run)["seconds"] for run in finished.values()),
                "teacher_seconds": _mean(_seconds_before(method, run) for run in finished.values()),
                "macs": total_macs(method, cost),
                "step_ms": cost.time and cost.time.milliseconds,
                "step_memory": cost.time and cost.time.memory,
                "student": vars(cost.student),
                "teacher": cost.teacher
                and {"name": method.teacher, "model": teacher_network(method.recipe).model, **vars(cost.teacher)},
            }
        )
    seeds = sorted({seed for finished in runs.values() for seed in finished})
    return {
        "name": recipe.name,
        "student": recipe.student.model,
        "weights": recipe.student.weights,
        "layout": recipe.data.layout,
        "iterations": recipe.schedule.iterations,
        "seeds": seeds,
        "methods": rows,
        "environment": environment,
    }


def read_comparison(folder: Path) -> dict[str, Any]:
    """What ``ladseg compare`` has written into a folder.

    Raises:
        RecipeError: There is no comparison.
    """
    path = folder / "results.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if "methods" not in found:
        raise RecipeError(f"{folder} is not the folder of a comparison; 'ladseg compare' makes one")
    return found


def mean_with_interval(values: Sequence[float]) -> dict[str, float | None]:
    """Mean, and the ends of its 95 % confidence interval by Student's t; None for the ends of a single value."""
    mean, count = statistics.mean(values), len(values)
    if count < 2:
        return {"mean": mean, "low": None, "high": None}
    half = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * statistics.stdev(values) / math.sqrt(count)
    return {"mean": mean, "low": mean - half, "high": mean + half}


def _paired(by_seed: Mapping[int, float], others: Mapping[int, float]) -> dict[str, float | None] | None:
    """The difference to another method's runs of equal seeds; None without any."""
    pairs = [value - others[seed] for seed, value in by_seed.items() if seed in others]
    return mean_with_interval(pairs) if pairs else None


def _delivered(run: dict[str, Any]) -> dict[str, Any]:
    networks = run["networks"]
    row: dict[str, Any] = networks.get("student") or networks["baseline"]
    return row


def _mean_iou(run: dict[str, Any]) -> float:
    return float(_delivered(run)["mean_iou"])


def _seconds_before(method: Method, run: dict[str, Any]) -> float:
    """Of the trainings that the student's own builds on."""
    networks = run["networks"]
    if "student" not in networks:
        return 0.0
    start = networks["baseline"]["seconds"] if starts_from_baseline(method.recipe) else 0.0
    return float(networks["teacher"]["seconds"] + networks["student"].get("first_stage_seconds", 0.0) + start)


def _mean(values: Any) -> float | None:
    known = list(values)
    return statistics.mean(known) if known else None
