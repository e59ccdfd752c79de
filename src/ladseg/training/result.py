"""The result of a finished training, which is saved beside its weights."""

from dataclasses import dataclass
from pathlib import Path

from ladseg.results import from_json, load_json, to_json, write_json
from ladseg.training.identity import checked_identity


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
        values = load_json(folder / "result.json")
        return from_json(FitResult, values), checked_identity(values["identity"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError):
        return None
