"""Compute the results of a comparison from those of its runs."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ladseg.comparison.costs import Costs, marginal_macs, starts_from_baseline, total_macs
from ladseg.comparison.judgement import judged
from ladseg.comparison.methods import NONE, NONE_LONG, Method
from ladseg.evaluation.paired_tests import t_interval
from ladseg.recipe import Recipe
from ladseg.report.verdict import method_verdict
from ladseg.results import ComparisonResults, Environment, MeanInterval, MethodCost, MethodRow, RunResults, TeacherCost
from ladseg.runs.networks import teacher_network

# The results of a method's finished runs, by seed.
RunsBySeed = Mapping[int, RunResults]


def summarize(
    recipe: Recipe, methods: Sequence[Method], runs: Mapping[str, RunsBySeed], costs: Costs, environment: Environment
) -> ComparisonResults:
    """Compute everything that the tables and the plot of a comparison show.

    Args:
        recipe: The recipe that the methods share.
        methods: The methods, in the order of the tables.
        runs: The results of each method's finished runs, by name and seed.
        costs: The costs of each method, by name.
        environment: The software and machine of the runs.
    """
    on_test = {name: _test_mean_iou(finished) for name, finished in runs.items()}
    alone, longer = ({seed: _mean_iou(run) for seed, run in runs.get(name, {}).items()} for name in (NONE, NONE_LONG))
    rows = []
    for method in methods:
        cost, finished = costs[method.name], runs[method.name]
        by_seed = {seed: _mean_iou(run) for seed, run in finished.items()}
        values = list(by_seed.values())
        tested = on_test[method.name]
        rows.append(
            MethodRow(
                name=method.name,
                mean_iou=by_seed,
                mean=statistics.mean(values) if values else None,
                std=statistics.stdev(values) if len(values) > 1 else None,
                difference=None if method.name == NONE else _paired(by_seed, alone),
                against_long=None if method.name == NONE_LONG else _paired(by_seed, longer),
                seconds=mean_of_known(run.delivered.seconds for run in finished.values()),
                teacher_seconds=mean_of_known(_seconds_before(method, run) for run in finished.values()),
                macs=total_macs(method, cost),
                step_ms=cost.time.milliseconds if cost.time else None,
                step_memory=cost.time.memory if cost.time else None,
                student=cost.student,
                teacher=_teacher(method, cost),
                last_mean=mean_of_known(run.delivered.last_mean_iou for run in finished.values()),
                test_mean=mean_of_known(tested.values()),
                test_std=statistics.stdev(tested.values()) if len(tested) > 1 else None,
                test_difference=None if method.name == NONE else _paired(tested, on_test.get(NONE, {})),
            )
        )
    rows = judged(rows, {method.name: marginal_macs(method, costs[method.name]) for method in methods})
    alone_runs = runs.get(NONE, {})
    rows = [
        replace(row, verdict=method_verdict(row, runs[row.name], alone_runs)) if row.mean_iou else row for row in rows
    ]
    return ComparisonResults(
        name=recipe.name,
        student=recipe.student.model,
        weights=recipe.student.weights,
        layout=recipe.data.layout,
        iterations=recipe.schedule.iterations,
        seeds=sorted({seed for finished in runs.values() for seed in finished}),
        methods=rows,
        environment=environment,
    )


def _teacher(method: Method, cost: MethodCost) -> TeacherCost | None:
    if method.teacher is None or cost.teacher is None:
        return None
    model = teacher_network(method.recipe).model
    existed = method.recipe.teacher.finished_file is not None
    return TeacherCost(method.teacher, model, cost.teacher.parameters, cost.teacher.macs, existed or None)


def mean_with_interval(values: Sequence[float]) -> MeanInterval:
    """Return the mean of one or more values and its 95 % confidence interval by Student's t."""
    return MeanInterval(statistics.mean(values), *(t_interval(values) or (None, None)))


def _paired(by_seed: Mapping[int, float], others: Mapping[int, float]) -> MeanInterval | None:
    """Return the mean difference from another method's runs with equal seeds; None without a common seed."""
    pairs = [value - others[seed] for seed, value in by_seed.items() if seed in others]
    return mean_with_interval(pairs) if pairs else None


def _mean_iou(run: RunResults) -> float:
    return run.delivered.mean_iou


def _test_mean_iou(runs: RunsBySeed) -> dict[int, float]:
    """Return the mIoU on the test split by seed, of the runs that have one."""
    found = {seed: run.delivered.test_mean_iou for seed, run in runs.items()}
    return {seed: value for seed, value in found.items() if value is not None}


def _seconds_before(method: Method, run: RunResults) -> float:
    """Return the seconds of the trainings on which the student's own training builds."""
    if "student" not in run.networks:
        return 0.0
    start = run.networks["baseline"].seconds if starts_from_baseline(method.recipe) else 0.0
    teacher = run.networks["teacher"].seconds if "teacher" in run.networks else 0.0
    return teacher + (run.networks["student"].first_stage_seconds or 0.0) + start


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None; None without any."""
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None
