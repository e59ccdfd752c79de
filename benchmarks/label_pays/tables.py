"""The table of a setting's candidates, and their curve."""

import json
from collections import defaultdict
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import stdtrit

from ladseg.evaluation.paired_tests import sign_flip_p, smallest_effect, t_interval

from .setting import FORWARD, SETTINGS, STRONG_FORWARD, TEACHER_SEED, home
from .teachers import members, own_units

STUDENTS = 6


def table(setting: str, base: str | None = None) -> None:
    """Print each candidate against ``base``, the plain student of the setting's budget, best form against best form."""
    base, runs = base or f"plain{SETTINGS[setting].steps}", recorded(setting)
    print(f"| candidate | compute | seeds | last | average | against `{base}` | p | each seed | smallest effect |")
    print("|---|---|---|---|---|---|---|---|---|")
    held = runs.get(base, {})
    lines = [(name, row_of(name, rows, held)) for name, rows in runs.items() if set(rows) & set(held)]
    for name, (_, cells) in sorted(lines, key=lambda line: -line[1][0]):
        print(f"| `{name}` | " + " | ".join(cells) + " |")


def recorded(setting: str) -> dict[str, dict[int, dict]]:
    """The students of a setting by name and seed."""
    runs: dict[str, dict[int, dict]] = defaultdict(dict)
    for row in map(json.loads, (home() / "results.jsonl").read_text().splitlines()):
        if row["setting"] == setting and "last" in row and row["seed"] < TEACHER_SEED:
            runs[row["name"]][row["seed"]] = row
    return runs


def row_of(name: str, rows: dict[int, dict], base: dict[int, dict]) -> tuple[float, list[str]]:
    """The mean difference and the cells of a candidate's line."""
    seeds = sorted(set(rows) & set(base))
    means = {form: np.mean([rows[seed][form] for seed in seeds]) for form in ("last", "ema")}
    own, against = (best({seed: one[seed] for seed in seeds}) for one in (rows, base))
    gaps = (own - against).tolist()
    interval, effect = t_interval(gaps), smallest_effect(gaps)
    ledger = f"{rows[seeds[0]]['units']:.0f}" + " marginal" * name.startswith(("reuse", "on-", "scratch"))
    cells = [ledger, str(len(seeds)), f"{means['last']:.2f}", f"{means['ema']:.2f}"]
    cells.append(f"{np.mean(gaps):+.2f}" + (" [{:+.2f}, {:+.2f}]".format(*interval) if interval else ""))
    cells += [f"{sign_flip_p(gaps):.3f}", ", ".join(f"{gap:+.2f}" for gap in gaps), f"{effect:.2f}" if effect else ""]
    return float(np.mean(gaps)), cells


def teachers(setting: str, lesson: str, *kinds: str) -> None:
    """Print what kinds of teachers give over plain training, and over each other: each seed's teacher, each student."""
    runs = recorded(setting)
    taught = {kind: of_each_teacher(kind, lesson, runs) for kind in kinds}
    plain = {name: best(rows) for name, rows in runs.items() if name.startswith("plain") and len(rows) == STUDENTS}
    print("| teachers | against | difference of mIoU, 95 % over teachers and students | each teacher | each student |")
    print("|---|---|---|---|---|")
    for kind in kinds:
        for name, alone in plain.items():
            print(line_of(kind, name, np.array([one - alone for one in taught[kind].values()])))
    for kind, other in combinations(kinds, 2):
        both = sorted(taught[kind].keys() & taught[other].keys())
        print(line_of(kind, other, np.array([taught[kind][seed] - taught[other][seed] for seed in both])))


def line_of(kind: str, other: str, gaps: np.ndarray) -> str:
    half, mean = crossed_half_width(gaps), gaps.mean()
    listed = " | ".join(", ".join(f"{gap:+.2f}" for gap in gaps.mean(axis)) for axis in (1, 0))
    return f"| `{kind}`, {len(gaps)} | `{other}` | {mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}] | {listed} |"


def of_each_teacher(kind: str, lesson: str, runs: dict[str, dict[int, dict]]) -> dict[int, np.ndarray]:
    """The students' figures by the teacher's seed, of teachers that have taught all of them."""
    seeds = range(TEACHER_SEED, 2 * TEACHER_SEED)
    names = {seed: f"reuse-{kind}{'' if seed == TEACHER_SEED else f'@{seed}'}-{lesson}" for seed in seeds}
    return {seed: best(runs[name]) for seed, name in names.items() if len(runs.get(name, {})) == STUDENTS}


def best(rows: dict[int, dict]) -> np.ndarray:
    """By the students' seeds, the figure of the form that is better in their mean."""
    return max((np.array([rows[seed][form] for seed in sorted(rows)]) for form in ("last", "ema")), key=np.mean)


def crossed_half_width(gaps: np.ndarray) -> float:
    """Half the 95 % interval of the mean of ``gaps`` (teachers, students), both drawn at random.

    The variance of the mean is that of two crossed random effects, (MS_T + MS_S - MS_E) / (T S), not below that of
    either alone; Student's t has the degrees of freedom of the smaller number.
    """
    rows, columns = gaps.shape
    centred = gaps - gaps.mean()
    by_row, by_column = centred.mean(1), centred.mean(0)
    rest = centred - by_row[:, None] - by_column
    of_rows = columns * (by_row**2).sum() / (rows - 1)
    of_columns = rows * (by_column**2).sum() / (columns - 1)
    of_rest = (rest**2).sum() / ((rows - 1) * (columns - 1))
    variance = max(of_rows + of_columns - of_rest, of_rows, of_columns) / gaps.size
    return float(stdtrit(min(rows, columns) - 1, 0.975) * variance**0.5)


def draw(picture: str, setting: str, *names: str) -> None:
    """Draw mIoU against compute: the plain students' curve, each reuse-candidate at its marginal and its total compute.

    Its figure is the mean over its teachers of each seed. Candidates are drawn a little apart, so that all can be seen.
    """
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    runs = recorded(setting)
    plain_runs = sorted((rows for name, rows in runs.items() if name.startswith("plain")), key=units)
    plain_points = zip(*((units(rows), *mean_and_error(best(rows))) for rows in plain_runs), strict=True)
    axes.errorbar(*plain_points, color="0.3", marker="o", capsize=3, label="plain")
    for number, name in enumerate(names):
        _, kind, lesson = name.split("-", 2)
        taught = list(of_each_teacher(kind, lesson, runs).values())
        marginal, (mean, error) = units(runs[name]), mean_and_error(np.mean(taught, 0))
        marginal += 0.03 * number * SETTINGS[setting].steps
        total = marginal + teacher_compute(kind, setting)
        label = f"{name}, {len(taught)} teacher" + "s" * (len(taught) > 1)
        line = axes.errorbar(marginal, mean, error, marker="o", capsize=3, label=label)
        axes.plot([marginal, total], [mean, mean], ":", color=line[0].get_color())
        axes.plot(total, mean, "o", color=line[0].get_color(), markerfacecolor="none")
    axes.set(title=setting, xlabel="compute, plain steps", ylabel="mIoU on val, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    figure.savefig(picture, dpi=110)


def units(rows: dict[int, dict]) -> float:
    return next(iter(rows.values()))["units"]


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Mean over seeds, and its standard error."""
    return float(values.mean()), float(values.std(ddof=min(1, len(values) - 1)) / len(values) ** 0.5)


def teacher_compute(kind: str, setting: str) -> float:
    """What a teacher has cost in plain steps of the setting: the plain training it began as, and its own."""
    scale = STRONG_FORWARD / FORWARD if "@strong" in kind else 1.0
    begin = 0 if "@cold" in kind else SETTINGS[setting].steps
    own = 0 if kind.startswith("plain") else own_units(kind, setting)
    return len(members(kind)) * scale * (begin + own)
