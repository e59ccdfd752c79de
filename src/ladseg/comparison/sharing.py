"""Share the cells of a comparison among processes and machines that have access to its folder."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from accelerate.utils import broadcast_object_list

from ladseg.comparison.cells import Cell
from ladseg.comparison.methods import LONG, is_on_plain_curve
from ladseg.errors import TrainingError, UserError
from ladseg.lease import Lease
from ladseg.runs.finished import Log, finished_results, refuse_other_recipe
from ladseg.runs.preparation import Workspace
from ladseg.runs.run import train_networks
from ladseg.training import load_result

# Seconds between two checks whether another process has finished or died.
POLL = 2.0
# Instructions of the main process to the others of its torchrun group; any other number is the cell to train.
DONE, WAIT = -1, -2


@dataclass(frozen=True)
class Choice:
    """The next action.

    Attributes:
        number: Index of the cell to train, or ``DONE`` or ``WAIT``.
        lease: The lease of that cell, on the main process.
    """

    number: int
    lease: Lease | None = None


def train_shared(cells: Sequence[Cell], workspace: Workspace, log: Log, wait: bool) -> None:
    """Train each cell that has not finished and that no other process trains.

    Any number of processes may do so in one folder, started at any time. If one dies, another takes over its cell and
    resumes from its last checkpoint.

    Args:
        cells: The cells, in the order in which to take them.
        workspace: Data and processes.
        log: Receives lines about the progress.
        wait: Whether to wait for the cells that others train, or to return when none is left to take.
    """
    left = []
    for number, cell in enumerate(cells):
        if finished_results(cell.folder, log) is None:
            left.append(number)
        else:
            if cell.method.name not in LONG:  # another version may have counted another number of steps for those
                refuse_other_recipe(cell.recipe)
            log(f"cell {number + 1} of {len(cells)}: {cell.method.name}, seed {cell.seed}: finished before")
    accelerator = workspace.accelerator
    waiting = False
    while True:
        # Results of finished cells are not read again.
        left = [number for number in left if cells[number].results is None]
        choice = _choose(cells, left) if accelerator.is_main_process else Choice(DONE)
        # All processes of a torchrun group train the same cell.
        number = broadcast_object_list([choice.number])[0]
        if number == DONE:
            return
        if number == WAIT:
            if not wait:
                log(f"{len(left)} cells are left to other processes; ending")
                return
            if not waiting:
                log(f"waiting for {len(left)} cells that other processes train")
            waiting = True
            time.sleep(POLL)
            continue
        waiting = False
        try:
            cell = cells[number]
            log(f"cell {number + 1} of {len(cells)}: {cell.method.name}, seed {cell.seed}")
            train_networks(cell.recipe, log, workspace, cell.shared)
        except UserError as error:
            error.args = (f"{cell.method.name}, seed {cell.seed}: {error}{_way_round(cell, error)}",)
            raise
        finally:
            if choice.lease is not None:
                choice.lease.release()


def _way_round(cell: Cell, error: UserError) -> str:
    """Return how to do without a method whose training fails; the plain students of the recipe are always trained."""
    if not isinstance(error, TrainingError) or is_on_plain_curve(cell.method.name):
        return ""
    return f"; or leave {cell.method.name} out of --methods"


def _choose(cells: Sequence[Cell], left: Sequence[int]) -> Choice:
    """Take the lease of the first free cell, and leave cells whose teacher another process trains for later."""
    if not left:
        return Choice(DONE)
    for number in left:
        cell = cells[number]
        if any(Lease(folder).is_held() and load_result(folder) is None for folder in cell.shared.values()):
            continue
        lease = Lease(cell.folder)
        if lease.acquire():
            if cell.results is None:
                return Choice(number, lease)
            lease.release()  # the cell has finished in the meantime
    return Choice(WAIT)
