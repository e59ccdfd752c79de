"""List the paper's experiments with their content, requirements and costs."""

from ladseg.comparison.methods import LAD
from ladseg.data.layouts import LAYOUTS
from ladseg.report.sheet import Sheet
from ladseg.reproduce.estimate import RATE, experiment_macs, gpu_hours
from ladseg.reproduce.experiments import Experiment, experiments

COLUMNS = ("experiment", "content", "needs", "students", "cells", "MACs", "V100 hours")
LEGEND = (
    "Cells: students to train, each by one method. MACs: counted multiply-accumulates of all trainings of one seed, "
    f"teachers included. V100 hours: an estimate at {RATE / 1e12:.1f} T multiply-accumulates per second, the rate that "
    "Table 1 implies; without evaluations, data loading and the distillers' own arithmetic (docs/reproduce.md)."
)


def experiments_sheet() -> Sheet:
    """Return the list as a table."""
    return Sheet("The paper's experiments", COLUMNS, [_row(experiment) for experiment in experiments().values()])


def _row(experiment: Experiment) -> list[str]:
    macs = experiment_macs(experiment)
    recipes = [setting.load() for setting in experiment.settings]
    sets = dict.fromkeys(LAYOUTS[recipe.data.layout].title.partition(",")[0] for recipe in recipes)
    files = dict.fromkeys(need.partition(",")[0] for setting in experiment.settings for need in setting.needs)
    # Classic teachers start from them, unless the command line names files.
    rivals = any(word != "none" and not word.startswith(LAD) for one in experiment.settings for word in one.methods)
    fetched = rivals or any("timm" in (recipe.student.weights, recipe.teacher.weights) for recipe in recipes)
    timm = ["timm's weights"] if fetched else []
    return [
        experiment.name,
        experiment.title.partition(": ")[2].partition(";")[0],
        "; ".join([*sets, *files, *timm]),
        str(len(experiment.settings)),
        str(sum(len(setting.rows) for setting in experiment.settings)),
        f"{macs:.1e}",
        f"{gpu_hours(macs):.0f}",
    ]
