"""Before the first training: check the data and the networks, claim the run's folder, open the data."""

from dataclasses import dataclass

from accelerate import Accelerator

from ladseg.data import SegmentationDataset, check_dataset, keep_decoded
from ladseg.files import write_text
from ladseg.measure.environment import describe_environment
from ladseg.recipe import Recipe
from ladseg.recipe_files import dump_recipe
from ladseg.results import write_json
from ladseg.runs.finished import CHECKED, SPLITS, Log, fingerprints, open_splits, refuse_other_recipe
from ladseg.runs.networks import check_networks
from ladseg.training import make_accelerator


@dataclass(frozen=True)
class Workspace:
    """What the runs of one process share.

    Attributes:
        accelerator: Device, precision, processes and trackers.
        train_set: The training split.
        val_set: The validation split.
        checked: Fingerprints of both splits, as they were when the data was checked.
    """

    accelerator: Accelerator
    train_set: SegmentationDataset
    val_set: SegmentationDataset
    checked: str

    @property
    def num_classes(self) -> int:
        """Number of classes of the data."""
        return self.train_set.spec.num_classes


def open_workspace(recipe: Recipe, log: Log) -> Workspace:
    """Check all of the data, claim the recipe's folder, and open the two splits.

    Under torchrun the main process checks while the others wait.

    Args:
        recipe: What is to be run.
        log: Takes the lines about the check, on the main process.

    Raises:
        UserError: Anything a user can put right: the data, the recipe, a folder that holds another run.
    """
    accelerator = make_accelerator(recipe.schedule.precision, recipe.folder, recipe.trackers)
    sets: list[SegmentationDataset] = []
    if accelerator.is_main_process:
        sets = open_splits(recipe.data)
        _check_data(recipe, sets, log)
        claim_folder(recipe, sets[0].spec.num_classes, fingerprints(sets))
    accelerator.wait_for_everyone()
    sets = sets or open_splits(recipe.data)
    with accelerator.local_main_process_first():
        train_set, val_set = (
            keep_decoded(dataset, recipe.data.cache, split) for dataset, split in zip(sets, SPLITS, strict=True)
        )
    return Workspace(accelerator, train_set, val_set, fingerprints(sets))


def claim_folder(recipe: Recipe, num_classes: int, checked: str) -> None:
    """Check the recipe's networks; record recipe, environment and data in its folder, or accept a folder that already
    holds the same recipe.

    Args:
        recipe: What is to be run.
        num_classes: Number of classes of the data.
        checked: Fingerprints of the data that was checked.

    Raises:
        ModelError: A network can't be built.
        RecipeError: The folder holds a run of another recipe; the message names the first difference.
    """
    check_networks(recipe, num_classes)
    refuse_other_recipe(recipe)
    if not (recipe.folder / "recipe.yaml").exists():
        write_text(recipe.folder / "recipe.yaml", dump_recipe(recipe))
    write_json(recipe.folder / "environment.json", describe_environment(recipe.seed))
    write_text(recipe.folder / CHECKED, checked)


def _check_data(recipe: Recipe, sets: list[SegmentationDataset], log: Log) -> None:
    """Read every file, unless an earlier start in the same folder has and nothing has changed since."""
    record = recipe.folder / CHECKED
    if record.is_file() and record.read_text(encoding="utf-8") == fingerprints(sets):
        log(f"{recipe.data.root} is unchanged since it was checked")
        return
    log(f"checking {recipe.data.root}")
    for warning in check_dataset(recipe.data, SPLITS):
        log(f"warning: {warning}")
