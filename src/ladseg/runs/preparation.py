"""Before the first training: the data is looked at, the networks are built, the folder is claimed."""

from collections.abc import Callable
from pathlib import Path

from ladseg.data import SegmentationDataset, check_dataset, fingerprint, keep_decoded, open_dataset
from ladseg.files import write_text
from ladseg.recipe import Data, Recipe
from ladseg.runs.networks import check_networks
from ladseg.runs.run_folder import claim_folder
from ladseg.training import make_accelerator

# The training and the validation split.
Sets = tuple[SegmentationDataset, SegmentationDataset]
Say = Callable[[str], None]

SPLITS = ("train", "val")
# In the folder: what the data looked like when it was checked.
CHECKED = "checked.txt"


def prepare(recipe: Recipe, say: Say) -> Sets:
    """Look at all of the data, try the networks, claim the recipe's folder, and open the two splits.

    Under torchrun the main process looks while the others wait.

    Args:
        recipe: What is to be run.
        say: Takes a line about what is done.

    Raises:
        UserError: Anything a user can put right: the data, the recipe, a folder that holds another run.
    """
    accelerator = make_accelerator(recipe.schedule.precision, recipe.folder)
    sets: list[SegmentationDataset] = []
    if accelerator.is_main_process:
        sets = _open(recipe.data)
        record = recipe.folder / CHECKED
        looked_at = _check_data(recipe.data, sets, record, say)
        check_networks(recipe, sets[0].spec.num_classes)
        claim_folder(recipe)
        write_text(record, looked_at)
    accelerator.wait_for_everyone()
    with accelerator.local_main_process_first():
        train_set, val_set = (
            keep_decoded(dataset, recipe.data.cache, split)
            for dataset, split in zip(sets or _open(recipe.data), SPLITS, strict=True)
        )
    return train_set, val_set


def _open(data: Data) -> list[SegmentationDataset]:
    return [open_dataset(data, split) for split in SPLITS]


def _check_data(data: Data, sets: list[SegmentationDataset], record: Path, say: Say) -> str:
    """Look at every file, unless an earlier start of this run has; the fingerprint of what was looked at."""
    found = "\n".join(map(fingerprint, sets))
    if record.is_file() and record.read_text(encoding="utf-8") == found:
        say(f"{data.root} is unchanged since it was checked")
        return found
    say(f"checking {data.root}")
    for warning in check_dataset(data, SPLITS):
        say(f"warning: {warning}")
    return found
