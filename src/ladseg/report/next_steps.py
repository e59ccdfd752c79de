"""What to do with a finished run: commands with its own paths."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ladseg.report.verdict import NOT_LEARNED, STILL_IMPROVING, run_verdict
from ladseg.results import TEACHER_FILE, RunResults

# The recipe's keys of a teacher that the plain student stands in for.
OF_THE_TEACHER = ("model", "features", "classes", "class_names")
SEEDS = "0,1,2,3,4,5"


def next_steps(results: RunResults, folder: Path, recipe: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return each step in words, and its command.

    Args:
        results: The run's figures.
        folder: The run's folder, as its reader names it.
        recipe: The content of its ``recipe.yaml``.
    """
    run, model = shlex.quote(str(folder)), results.delivered.model
    again, own = shlex.quote(str(folder / "recipe.yaml")), f" --model {shlex.quote(model)}" if ":" in model else ""
    steps = []
    if run_verdict(results).word in (NOT_LEARNED, STILL_IMPROVING):
        key = "iterations" if recipe["schedule"].get("minutes") is None else "minutes"
        longer = f"--schedule.{key} {2 * recipe['schedule'][key]:g} --out {shlex.quote(f'{folder}-longer')}"
        steps.append(("Train for twice as long", f"ladseg train {again} {longer}"))
    steps += [
        ("Predict images", f"ladseg predict {run} path/to/images --out seen{own}"),
        ("Measure it, with boundaries and confusion", f"ladseg eval {run} --confusion{own}"),
        ("Write it for other runtimes", f"ladseg export {run} --to onnx --normalize --argmax{own}"),
    ]
    if (folder / TEACHER_FILE).is_file():
        second = f"--seed {results.seed + 1} --out {shlex.quote(f'{folder}-second')}"
        steps.append(
            ("Train one more student of the same teacher", f"ladseg train {again} --teacher-from {run} {second}")
        )
    elif "student" not in results.networks:
        taught = f"--distill.method cwd --seed {results.seed + 1} --out {shlex.quote(f'{folder}-taught')}"
        taught += "".join(f" --teacher.{key} null" for key in OF_THE_TEACHER if recipe["teacher"].get(key) is not None)
        steps.append(
            ("Teach a student of another seed by this one", f"ladseg train {again} --teacher-from {run} {taught}")
        )
    method = "lad" if results.label_assisted or "student" not in results.networks else recipe["distill"]["method"]
    # As the run did, where its student went on from the plain one: a comparison's students start afresh.
    order = "--distill.warm_start true " if method == "lad" and results.student_starts_warm else ""
    methods = f"{order}--methods none,none-long,{method} --seeds {SEEDS} --out {shlex.quote(f'{folder}-compare')}"
    steps.append(
        ("Does distillation pay here? Several seeds and longer training tell", f"ladseg compare {again} {methods}")
    )
    return steps
