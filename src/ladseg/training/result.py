"""What a finished training leaves beside its weights."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ladseg.files import write_text


@dataclass(frozen=True)
class FitResult:
    """A finished training.

    Attributes:
        best_score: Highest score of the evaluations; None without any.
        best_step: Steps done when the delivered weights were taken.
        last_score: Score after the last step.
        iterations: Steps done in all.
        seconds: Time spent in training steps, over all restarts; evaluating and saving left out.
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
    write_text(folder / "result.json", json.dumps({"identity": identity, **asdict(result)}, indent=2) + "\n")


def load_result(folder: Path) -> tuple[FitResult, str] | None:
    """The result and the identity of the finished training in ``folder``; None if none has finished there."""
    path = folder / "result.json"
    if not path.exists():
        return None
    values = json.loads(path.read_text(encoding="utf-8"))
    identity = values.pop("identity")
    return FitResult(**values), identity
