"""The result of a finished training, which is saved beside its weights."""

import json
from dataclasses import dataclass
from pathlib import Path

from ladseg.results import from_json, to_json, write_json


@dataclass(frozen=True)
class FitResult:
    """A finished training.

    Attributes:
        best_score: Highest score of the evaluations; None without any.
        best_step: Number of steps after which the delivered weights were taken.
        last_score: Score after the last step.
        iterations: Number of steps done.
        seconds: Seconds spent in training steps, over all restarts, without evaluating and saving.
        precision: ``"fp32"`` or ``"bf16"``.
    """

    best_score: float | None
    best_step: int
    last_score: float | None
    iterations: int
    seconds: float
    precision: str


def save_result(folder: Path, result: FitResult, identity: str) -> None:
    """Mark the training in ``folder`` as finished."""
    write_json(folder / "result.json", {"identity": identity, **to_json(result)})


def load_result(folder: Path) -> tuple[FitResult, str] | None:
    """Return the result and the identity of the finished training in ``folder``; None if there is none.

    A damaged file counts as none, because it can be written again from the last checkpoint.
    """
    try:
        values = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        return from_json(FitResult, values), values["identity"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None
