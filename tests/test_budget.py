"""A budget in minutes becomes a number of steps."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from ladseg.comparison.compare import compare
from ladseg.data import write_demo_scenes
from ladseg.errors import RecipeError
from ladseg.recipe import Data, Recipe, Schedule, StudentSettings, TeacherSettings
from ladseg.recipe_files import load_recipe
from ladseg.runs import budget
from ladseg.runs.budget import fitting_steps
from ladseg.runs.train import train


@pytest.fixture(autouse=True)
def _own_accelerator() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def spent(recipe: Recipe, iterations: int, steps: dict[str, float], look: float) -> float:
    """Add up step by step what a run takes."""
    total = 0.0
    for key, rate in steps.items():
        count = (recipe.teacher.iterations or iterations) if key == "teacher" else iterations
        every = recipe.schedule.eval_every
        total += sum(rate for _ in range(count)) + look  # the last figure is of the weights that are delivered
        total += look * (5 if every is None else count / every)
    return total


@pytest.mark.parametrize("every", [None, 50])
@pytest.mark.parametrize("teacher", [None, 30])
def test_as_many_steps_as_fit(every: int | None, teacher: int | None) -> None:
    recipe = Recipe(schedule=Schedule(eval_every=every), teacher=TeacherSettings(iterations=teacher))
    steps, look = {"baseline": 0.1, "teacher": 0.25, "student": 0.17}, 2.0
    found = fitting_steps(recipe, 600, steps, look)
    assert found > 100
    assert spent(recipe, found, steps, look) <= 600 < spent(recipe, found + 1, steps, look)


def test_a_run_keeps_what_it_has_fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_demo_scenes(tmp_path / "data", train=6, val=3, size=(32, 48))
    recipe = Recipe(
        data=Data(root=str(tmp_path / "data"), classes=str(tmp_path / "data" / "classes.txt"), ignore_index=9),
        student=StudentSettings(model="pspnet@test_resnet"),
        schedule=Schedule(iterations=4000, batch_size=2, crop=(32, 48), precision="fp32", minutes=5.0),
        out=str(tmp_path / "run"),
        trackers=[],
    )
    recipe = replace(recipe, distill=replace(recipe.distill, method="none"))
    measured = []
    monkeypatch.setattr(budget, "fitting_steps", lambda *given: measured.append(given) or 3)
    lines: list[str] = []
    results = train(recipe, lines.append)
    assert results is not None
    assert results.networks["baseline"].steps == 3
    ((_, seconds, steps, look),) = measured
    assert seconds == 300
    assert list(steps) == ["baseline"]
    assert 1e-4 < steps["baseline"] < 30
    assert 1e-4 < look < 60
    assert any(line.startswith("5 minutes are enough for 3 steps per training") for line in lines)
    assert load_recipe(recipe.folder / "recipe.yaml").schedule.iterations == 3
    assert train(recipe, lines.append) == results
    assert len(measured) == 1, "a second start takes the number from the folder"
    with pytest.raises(RecipeError, match=r"schedule\.minutes: 5.0 there, 6.0 now"):
        train(replace(recipe, schedule=replace(recipe.schedule, minutes=6.0)), lines.append)
    with pytest.raises(RecipeError, match="the methods of a comparison share a number of steps"):
        compare(recipe, ["lad"], [0])


def test_too_few_minutes_are_refused() -> None:
    recipe = Recipe(schedule=Schedule(minutes=0.01))
    assert fitting_steps(recipe, 0.6, {"baseline": 0.1}, 2.0) < 1
