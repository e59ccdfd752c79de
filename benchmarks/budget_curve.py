"""mIoU against all compute that was spent, over comparisons of several budgets.

    python benchmarks/budget_curve.py curve.png COMPARISON [COMPARISON ...]

reads folders of ``ladseg compare`` whose students, data and seeds are the same; prints a Markdown table, draws a line a
method with a standard deviation over seeds. Compute is that of the smallest comparison's ``none``.
"""

import sys
from collections import defaultdict
from pathlib import Path

import matplotlib.pyplot as plt

from ladseg.results import read_comparison


def main(picture: str, folders: list[str]) -> None:
    comparisons = [read_comparison(Path(folder)) for folder in folders]
    smallest = min(comparisons, key=lambda comparison: comparison.iterations)
    unit = next(row.macs for row in smallest.methods if row.name == "none")
    points: dict[str, dict[float, tuple[float, float, int]]] = defaultdict(dict)
    for comparison in comparisons:
        for row in comparison.methods:
            if row.mean is not None:
                # Both are the student without help.
                name = "none" if row.name == "none-long" else row.name
                compute = round(row.macs / unit, 2)
                points[name][compute] = 100 * row.mean, 100 * (row.std or 0), len(row.mean_iou)
    print("| method | compute | mIoU | seeds |\n|---|---|---|---|")
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, curve in points.items():
        computes = sorted(curve)
        means, deviations = zip(*(curve[compute][:2] for compute in computes), strict=True)
        axes.errorbar(computes, means, deviations, marker="o", capsize=3, label=name)
        for compute in computes:
            mean, deviation, seeds = curve[compute]
            print(f"| `{name}` | {compute:.2f} | {mean:.2f} ± {deviation:.2f} | {seeds} |")
    axes.set(xlabel="compute, all trainings (none = 1)", ylabel="mIoU, %", xscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
