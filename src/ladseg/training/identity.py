"""The identity of a training, so that a folder is resumed by the same training only."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ladseg.errors import TrainingError
from ladseg.recipe import Schedule

# No weight depends on how often they are saved, and a change of precision is said, not refused.
FREE = {"save_every", "precision"}


def training_identity(schedule: Schedule, seed: int, title: str, depends_on: Mapping[str, object]) -> str:
    """Return everything that the trained weights depend on, as JSON with sorted keys.

    Args:
        schedule: How it is trained.
        seed: Of the random draws.
        title: The training's name.
        depends_on: What else the weights depend on: values that JSON can hold, or whose ``str`` tells them apart.
    """
    steps = {f"schedule.{k}": v for k, v in dataclasses.asdict(schedule).items() if k not in FREE}
    return json.dumps({**steps, "seed": seed, "title": title, **depends_on}, sort_keys=True, default=str)


def refuse_other_identity(folder: Path, there: str, now: str) -> None:
    """Refuse to go on with another training than the folder holds.

    Raises:
        TrainingError: They differ; the message names the first difference.
    """
    if there == now:
        return
    # A key that came into the program later does not tell trainings apart where it is left at its default.
    defaults = {f"schedule.{key}": value for key, value in dataclasses.asdict(Schedule()).items()}
    old, new = (_named(defaults | json.loads(identity)) for identity in (there, now))
    if old == new:
        return
    key = next(k for k in sorted(old | new) if old.get(k) != new.get(k))
    raise TrainingError(
        f"{folder}: holds a training with {key} {old.get(key)}, and now it is {new.get(key)}; "
        "go back to that value, choose another folder, or delete this one"
    )


def _named(value: Any) -> Any:
    """Return a value of JSON without the keys that hold null."""
    return {k: _named(v) for k, v in value.items() if v is not None} if isinstance(value, dict) else value
