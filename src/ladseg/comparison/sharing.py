"""Share the cells of a comparison among processes and machines that see its folder."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from accelerate.utils import broadcast_object_list

from ladseg.comparison.cells import Cell
from ladseg.comparison.methods import LONG
from ladseg.lease import Lease
from ladseg.runs.finished import Log, refuse_other_recipe
from ladseg.runs.preparation import Workspace
from ladseg.runs.run import train_networks
from ladseg.training import load_result

# Seconds between two looks at whether another process has finished or died.
POLL = 2.0
# What the main process tells the others of its torchrun group to do; a number is the cell to train.
DONE, WAIT = -1, -2


@dataclass(frozen=True)
class Choice:
    """The next thing to do.

    Attributes:
        number: Index of the cell to train, or ``DONE`` or ``WAIT``.
        lease: The lease of that cell, on the main process.
    """

    number: int
    lease: Lease | None = None


def train_shared(cells: Sequence[Cell], workspace: Workspace, log: Log, wait: bool) -> None:
    """Train each cell that has not finished and that no other process trains.

    Any number of processes may do so for one folder at a time, started at any time. The cells of a process that dies
    are taken over by the others, and go on from its last checkpoint.

    Args:
        cells: In the order in which they are taken.
        workspace: Data and processes.
        log: Takes the lines about the progress.
        wait: Whether to wait for the cells that others train; else to return when none is left to take.
    """
    left = []
    for number, cell in enumerate(cells):
        if cell.results is None:
            left.append(number)
        else:
            if cell.method.name not in LONG:  # its number of steps is counted, perhaps by another version
                refuse_other_recipe(cell.recipe)
            log(f"cell {number + 1} of {len(cells)}: {cell.method.name}, seed {cell.seed}: finished before")
    accelerator = workspace.accelerator
    waiting = False
    while True:
        # What has finished is not read again.
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
        finally:
            if choice.lease is not None:
                choice.lease.release()


def _choose(cells: Sequence[Cell], left: Sequence[int]) -> Choice:
    """Take the lease of the first cell of those left that is free; one whose teacher is being trained comes later."""
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
            lease.release()  # finished since it was looked at
    return Choice(WAIT)
