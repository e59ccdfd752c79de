"""Check the data and the networks, claim the run's folder and open the data, before the first training."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accelerate import Accelerator

from ladseg.data import Checked, SegmentationDataset, check_once, keep_decoded, refuse_other_data
from ladseg.data.unlabelled import UNLABELLED
from ladseg.deploy.teacher_file import is_ladsegs, read_teacher_header
from ladseg.errors import DataError, RecipeError, printable
from ladseg.files import write_text
from ladseg.measure.environment import describe_environment
from ladseg.recipe import Recipe
from ladseg.recipe_files import dump_recipe
from ladseg.results import write_json
from ladseg.runs.finished import Log, open_splits, record_teacher, refuse_other_recipe
from ladseg.runs.networks import check_networks
from ladseg.runs.parts import CHECKED, ENVIRONMENT, RECIPE, fault_of, refuse_misplaced
from ladseg.training import make_accelerator, one_process_first, wait_patiently

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workspace:
    """The data and processes that all runs of one process share.

    Attributes:
        accelerator: Device, precision, processes and trackers.
        train_set: The training split.
        val_set: The validation split.
        test_set: The test split; None if the recipe names none.
        checked: The record of the check of all splits.
        unlabelled: The images without masks; None without any.
    """

    accelerator: Accelerator
    train_set: SegmentationDataset
    val_set: SegmentationDataset
    test_set: SegmentationDataset | None
    checked: Checked
    unlabelled: SegmentationDataset | None = None

    @property
    def num_classes(self) -> int:
        """Number of classes of the data."""
        return self.train_set.spec.num_classes


def open_workspace(recipe: Recipe, log: Log) -> Workspace:
    """Check all of the data, claim the recipe's folder, and open the splits.

    Under torchrun the main process checks while the others wait.

    Args:
        recipe: The recipe.
        log: Receives lines about the check, on the main process.

    Raises:
        UserError: The data, the recipe or the folder has a fault that a user can correct.
    """
    accelerator = make_accelerator(recipe.schedule.precision, recipe.folder, recipe.trackers)
    record = recipe.folder / CHECKED
    if accelerator.is_main_process:
        opened = open_splits(recipe.data)
        checked = check_once(recipe.data, opened, record, log)
        claim_folder(recipe, opened["train"].spec.num_classes, checked)
    wait_patiently(accelerator)
    known = Checked.read(record)
    if known is None:
        raise DataError(f"{record}: can't be read by this process; all processes need the folder {recipe.folder}")
    with one_process_first(accelerator):
        sets = {
            split: keep_decoded(known.apply_to(dataset, split), recipe.data.cache, split)
            for split, dataset in open_splits(recipe.data).items()
        }
    test_set = None if recipe.data.test is None else sets[recipe.data.test]
    return Workspace(accelerator, sets["train"], sets["val"], test_set, known, sets.get(UNLABELLED))


def claim_folder(recipe: Recipe, num_classes: int, checked: Checked) -> None:
    """Check the recipe's networks, and record recipe, environment and data in its folder.

    A folder that already holds the same recipe is accepted.

    Args:
        recipe: The recipe.
        num_classes: Number of classes of the data.
        checked: The record of the check of the data.

    Raises:
        ModelError: A network can't be built.
        RecipeError: The folder holds a run of another recipe; the message names the first difference.
        DataError: The folder holds networks that were trained on other data; the message says what has changed.
    """
    refuse_misplaced(recipe.folder)
    check_networks(recipe, num_classes)
    refuse_lone_splits(recipe, checked)
    refuse_other_range(recipe, checked)
    refuse_other_recipe(recipe)
    refuse_other_data(recipe.folder, recipe.folder / CHECKED, checked)
    fault = fault_of(recipe.folder / RECIPE)
    if fault is not None:
        if (recipe.folder / RECIPE).exists():
            logger.warning("%s", printable(f"{recipe.folder / RECIPE}: {fault}; it is written again"))
        write_text(recipe.folder / RECIPE, dump_recipe(recipe))
    record_teacher(recipe)
    write_json(recipe.folder / ENVIRONMENT, describe_environment(recipe.seed))
    write_text(recipe.folder / CHECKED, checked.to_json())


def refuse_lone_splits(recipe: Recipe, checked: Checked) -> None:
    """Refuse a shuffled placebo on a split of one image, whose label would be shown to itself.

    Raises:
        RecipeError: There is such a split.
    """
    lone = [split for split in ("train", "val") if len(checked.contents[split].pairs) < 2]
    if recipe.teacher.placebo == "shuffled" and lone:
        raise RecipeError(f"teacher.placebo shuffled shows the label of another image, but {lone[0]} has one image")


def refuse_other_range(recipe: Recipe, checked: Checked) -> None:
    """Refuse a finished teacher that has learnt from 16-bit images which another range had scaled.

    Raises:
        RecipeError: It would see other brightnesses than those that it knows.
    """
    file = recipe.teacher.finished_file
    if file is None or checked.value_range is None or not is_ladsegs(Path(file)):
        return
    header = read_teacher_header(Path(file))[0]
    theirs, ours = header.data.value_range, recipe.data.value_range or checked.value_range
    if theirs is None or header.channels != recipe.data.channels:  # which is refused where the teacher is built
        return
    shape = (header.channels, 2)
    if not np.array_equal(np.broadcast_to(theirs, shape), np.broadcast_to(ours, shape)):
        wanted = np.array(theirs).tolist()
        raise RecipeError(
            f"{file}: its 16-bit images were scaled by data.value_range {wanted}, those of the data are by "
            f"{np.array(ours).tolist()}; set data.value_range to {wanted}, or train another teacher"
        )
