"""The identity of a training, so that a folder is resumed by the same training only."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ladseg.errors import TrainingError
from ladseg.recipe import Schedule

# The weights do not depend on ``save_every``, and a change of precision is reported, not refused.
FREE = {"save_every", "precision"}


def training_identity(schedule: Schedule, seed: int, title: str, depends_on: Mapping[str, object]) -> str:
    """Return everything that the trained weights depend on, as JSON with sorted keys.

    Args:
        schedule: The training schedule.
        seed: Seed of all random numbers.
        title: The training's name.
        depends_on: Whatever else the weights depend on: JSON values, or objects with a distinctive ``str``.
    """
    steps = {f"schedule.{k}": v for k, v in dataclasses.asdict(schedule).items() if k not in FREE}
    return json.dumps({**steps, "seed": seed, "title": title, **depends_on}, sort_keys=True, default=str)


def checked_identity(value: Any) -> str:
    """Return the value, if it is what :func:`training_identity` returns.

    Raises:
        ValueError: It is not.
    """
    if not (isinstance(value, str) and isinstance(json.loads(value), dict)):
        raise ValueError("it does not tell which training it is of")
    return value


def refuse_other_identity(folder: Path, there: str, now: str) -> None:
    """Refuse to continue another training than the one in the folder.

    Raises:
        TrainingError: They differ; the message names the first difference.
    """
    if there == now:
        return
    # A schedule key that an older version did not record counts as its default.
    defaults = {f"schedule.{key}": value for key, value in dataclasses.asdict(Schedule()).items()}
    old, new = (_named(defaults | json.loads(identity)) for identity in (there, now))
    if old == new:
        return
    key = next(k for k in sorted(old | new) if old.get(k) != new.get(k))
    if key == "seed":  # a recipe of another seed is refused before
        raise TrainingError(
            f"{folder}: holds a training on batches of seed {old.get(key)}, and now they are of {new.get(key)}: "
            "another version of ladseg began it, or another seed; finish it with that one, or start in another folder "
            "with --out"
        )
    raise TrainingError(
        f"{folder}: holds a training with {key} {old.get(key)}, and now it is {new.get(key)}; "
        "go back to that value, choose another folder, or delete this one"
    )


def _named(value: Any) -> Any:
    """Return a JSON value without the keys that hold null."""
    return {k: _named(v) for k, v in value.items() if v is not None} if isinstance(value, dict) else value
