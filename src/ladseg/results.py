"""The figures that ladseg keeps on disk, typed, and their way to and from JSON.

Every key of ``results.json``, ``row.json``, ``costs.json``, ``samples.json``, ``environment.json`` and of the figures
of ``ladseg eval`` is the name of a field here, and is spelled nowhere else. In JSON, NaN is null; a field with a
default is left out where it holds None. Scores (mIoU, IoU, pixel accuracy) are in 0..1.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from ladseg.errors import RecipeError, first_words
from ladseg.files import write_text

T = TypeVar("T")

# In the folder of a run and of a comparison.
RESULTS = "results.json"
# In the folder of a run: the network that it delivers.
STUDENT = "student.safetensors"


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Where and how figures were made.

    Attributes:
        seed: The run's seed; None for a comparison, which has several.
        python: Version of Python.
        packages: Versions of the packages that the figures depend on.
        machine: Processor architecture.
        system: Operating system.
        processor: Name and number of the CPUs.
        threads: Threads that torch used.
        gpu: Name of the GPU; None without one.
        git_commit: Commit of the working directory; None outside a repository.
        command: The command line.
    """

    seed: int | None = None
    python: str
    packages: dict[str, str]
    machine: str
    system: str
    processor: str
    threads: int
    gpu: str | None
    git_commit: str | None
    command: str


@dataclass(frozen=True)
class Verdict:
    """What figures allow to be said; made by :mod:`ladseg.report.verdict` alone.

    Attributes:
        word: One of its words, such as ``"no difference shown"``.
        sentence: The word with its reason and the figures.
    """

    word: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class NetworkRow:
    """A trained network of a run.

    Attributes:
        model: Name of the network.
        sees: ``"image"`` or ``"image + noised label"``.
        parameters: Parameters in use when the network predicts.
        macs: Multiply-accumulates of one prediction at the training crop's size.
        mean_iou: On the whole validation split, with the weights of the best evaluation.
        pixel_accuracy: On the whole validation split.
        iou: IoU of each class; NaN for a class that occurs in neither labels nor predictions.
        best_step: Training steps done when the kept weights were taken.
        last_mean_iou: After the last step; None without evaluations.
        steps: Training steps.
        precision: ``"fp32"`` or ``"bf16"``.
        seconds: Time in training steps.
        peak_memory: Bytes of memory at the peak of the training; None where it was not watched.
        mean_iou_without_label: Of a label-assisted teacher, with zeros in place of the noised label (section 4.2).
        mean_iou_without_image: Of a label-assisted teacher, with the mean colour in place of the image (section 4.2).
        mean_kl_between_draws: Of a label-assisted teacher, KL_mean of section 4.3 in nats a pixel (Table 8).
        first_stage_seconds: Of a distilled student, time of training its distiller's first stage.
        folder: The training's folder, relative to the run's.
        validation_curve: Steps and mIoU of each evaluation while it was trained.
    """

    model: str
    sees: str
    parameters: int
    macs: int
    mean_iou: float
    pixel_accuracy: float
    iou: list[float]
    best_step: int
    last_mean_iou: float | None
    steps: int
    precision: str
    seconds: float
    peak_memory: int | None
    mean_iou_without_label: float | None = None
    mean_iou_without_image: float | None = None
    mean_kl_between_draws: float | None = None
    first_stage_seconds: float | None = None
    folder: str | None = None
    validation_curve: list[tuple[int, float]] | None = None


@dataclass(frozen=True)
class MeasuredRow:
    """A training's row as it is kept in the training's folder.

    Attributes:
        measured_on: Fingerprint of the validation split.
        row: The figures.
    """

    measured_on: str
    row: NetworkRow


@dataclass(frozen=True)
class ImageCounts:
    """Numbers of images in the two splits."""

    train: int
    val: int


@dataclass(frozen=True)
class Difference:
    """The distilled student's mIoU minus that of the student alone.

    Attributes:
        mean_iou: The difference.
        interval: Its 95 % interval by a paired bootstrap over the validation images; None where there is none.
        no_interval: Why there is none.
    """

    mean_iou: float
    interval: tuple[float, float] | None
    no_interval: str | None = None


@dataclass(frozen=True)
class PredictionTime:
    """How long the delivered network predicts.

    Attributes:
        size: Height and width of the image.
        seconds: Median seconds an image, float32.
        device: ``"cpu"`` or ``"cuda"``.
    """

    size: tuple[int, int]
    seconds: float
    device: str


@dataclass(frozen=True, kw_only=True)
class RunResults:
    """A finished run.

    Attributes:
        name: Name of the recipe.
        seed: Seed of the run.
        label_assisted: Whether the teacher sees labels.
        iterations: Training steps of the student.
        class_names: In the order of the class ids.
        colors: An RGB colour a class, 0..255.
        images: Sizes of the splits.
        crop: Height and width of the training crops.
        networks: ``"baseline"``, ``"teacher"`` and ``"student"``, those that the run trained.
        difference: What distillation changed; None without both students.
        prediction: Speed of the delivered network.
        constant_mean_iou: mIoU on the validation split of the best prediction of one class everywhere.
        verdict: What the figures allow to be said.
    """

    name: str
    seed: int
    label_assisted: bool
    iterations: int
    class_names: list[str]
    colors: list[tuple[int, int, int]]
    images: ImageCounts
    crop: tuple[int, int]
    networks: dict[str, NetworkRow]
    difference: Difference | None
    prediction: PredictionTime
    constant_mean_iou: float | None = None
    verdict: Verdict | None = None

    @property
    def delivered(self) -> NetworkRow:
        """The network that the run delivers: the distilled student, or the student alone where nothing is distilled."""
        return self.networks.get("student") or self.networks["baseline"]

    @property
    def students(self) -> list[str]:
        """Keys of the students that were trained: ``"baseline"``, ``"student"`` or both."""
        return [key for key in ("baseline", "student") if key in self.networks]


@dataclass(frozen=True)
class Sample:
    """A validation image whose pictures the report shows.

    Attributes:
        index: Its place in the validation split.
        name: File name of the image.
        group: ``"gained"``, ``"lost"`` or ``"spread"``: why it was chosen.
        mean_iou: mIoU of this image by network.
        files: Names of the picture files by what they show.
    """

    index: int
    name: str
    group: str
    mean_iou: dict[str, float]
    files: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class EvaluationResults:
    """A delivered network, measured on a data set by ``ladseg eval``.

    Attributes:
        weights: The weights file.
        split: The split.
        images: Number of images.
        inference: How images were predicted: the fields of :class:`ladseg.Inference`.
        boundary: Width of the boundaries of boundary IoU as a share of the image's diagonal.
        mean_iou: Mean over the classes that occur.
        mean_boundary_iou: Mean over the classes that occur.
        pixel_accuracy: Share of the counted pixels that are right.
        class_names: In the order of the class ids.
        iou: Of each class; NaN for a class that occurs in neither labels nor predictions.
        boundary_iou: Of each class; NaN likewise.
        confusion: Counted pixels; row = label, column = prediction.
    """

    weights: str
    split: str
    images: int
    inference: dict[str, Any]
    boundary: float
    mean_iou: float
    mean_boundary_iou: float
    pixel_accuracy: float
    class_names: list[str]
    iou: list[float]
    boundary_iou: list[float]
    confusion: list[list[int]]


@dataclass(frozen=True)
class NetworkCost:
    """What a network costs when it predicts.

    Attributes:
        parameters: Parameters in use.
        macs: Multiply-accumulates of one image of the training crop's size.
    """

    parameters: int
    macs: int


@dataclass(frozen=True)
class StepTime:
    """A training step on this machine.

    Attributes:
        milliseconds: Median; forward passes of student and teacher, losses, backward pass, update.
        memory: Bytes of weights, optimizer state and the most that a step needs beside them; None where unknown.
    """

    milliseconds: float
    memory: int | None


@dataclass(frozen=True)
class MethodCost:
    """What a method costs, apart from its results.

    Attributes:
        step_macs: Multiply-accumulates of one step of each training that its student depends on.
        student: The network that is delivered.
        teacher: The network that it learns from; None without one.
        recipe: A hash of what it was counted for.
        time: The student's training step; None if it has not been measured.
    """

    step_macs: dict[str, int]
    student: NetworkCost
    teacher: NetworkCost | None
    recipe: str
    time: StepTime | None


@dataclass(frozen=True)
class TeacherCost:
    """A method's teacher.

    Attributes:
        name: Name of the teacher's training in the comparison.
        model: Name of the network.
        parameters: Parameters in use.
        macs: Multiply-accumulates of one image of the training crop's size.
    """

    name: str
    model: str
    parameters: int
    macs: int


@dataclass(frozen=True)
class MeanInterval:
    """A mean and its 95 % confidence interval by Student's t; the ends are None for a single value."""

    mean: float
    low: float | None
    high: float | None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends; None for a single value."""
        return None if self.low is None or self.high is None else (self.low, self.high)


@dataclass(frozen=True, kw_only=True)
class MethodRow:
    """A method of a comparison, over the seeds that have finished.

    Attributes:
        name: Name of the method.
        mean_iou: mIoU of the delivered student by seed.
        mean: Mean of those; None before any has finished.
        std: Their standard deviation; None for fewer than two.
        difference: Paired difference to ``none``; None for ``none`` itself and without a common seed.
        against_long: Paired difference to ``none-long``; None likewise.
        seconds: Mean time in the student's training steps.
        teacher_seconds: Mean time in the training steps of all that the student's own training builds on.
        macs: Multiply-accumulates of everything that was trained for the student, itself included.
        step_ms: Milliseconds of the student's training step; None if it was not timed.
        step_memory: Bytes that the step needs; None if unknown.
        student: The delivered network.
        teacher: The network that it learns from; None without one.
        last_mean: Mean of the mIoU after the last step, where ``mean`` is that of the best evaluation.
        compute_total: ``macs`` as a multiple of those of ``none``.
        compute_marginal: The same of one more student, when its teacher is there.
        gain_at_equal_total: Mean over seeds of the mIoU minus that of the seed's own plain curve at ``compute_total``;
            None where the curve does not reach so far, and for the student alone. So with the following.
        gain_at_equal_marginal: The same at ``compute_marginal``.
        break_even_students: Number of students from which their common teacher has paid for itself; None if no number.
        p_sign_flip: Two-sided p of the exact sign-flip test of ``gain_at_equal_total``.
        p_holm: ``p_sign_flip`` adjusted for the number of methods.
        interval_t: 95 % interval of ``gain_at_equal_total`` by Student's t.
        interval_bca: The same by the BCa bootstrap over seeds.
        smallest_effect: The gain that so many seeds of this spread would have shown in four of five cases.
        marginal_p_sign_flip: As ``p_sign_flip``, of ``gain_at_equal_marginal``.
        marginal_interval_t: As ``interval_t``, of ``gain_at_equal_marginal``.
        verdict: What the seeds allow to be said of it; None for ``none`` itself and before a seed has finished.
    """

    name: str
    mean_iou: dict[int, float]
    mean: float | None
    std: float | None
    difference: MeanInterval | None
    against_long: MeanInterval | None
    seconds: float | None
    teacher_seconds: float | None
    macs: int
    step_ms: float | None
    step_memory: int | None
    student: NetworkCost
    teacher: TeacherCost | None
    last_mean: float | None = None
    compute_total: float | None = None
    compute_marginal: float | None = None
    gain_at_equal_total: float | None = None
    gain_at_equal_marginal: float | None = None
    break_even_students: int | None = None
    p_sign_flip: float | None = None
    p_holm: float | None = None
    interval_t: tuple[float, float] | None = None
    interval_bca: tuple[float, float] | None = None
    smallest_effect: float | None = None
    marginal_p_sign_flip: float | None = None
    marginal_interval_t: tuple[float, float] | None = None
    verdict: Verdict | None = None


@dataclass(frozen=True, kw_only=True)
class ComparisonResults:
    """A comparison of methods.

    Attributes:
        name: Name of the recipe that the methods share.
        student: Name of the student's network.
        weights: What the student starts from; None for random weights.
        layout: Layout of the data set.
        iterations: Training steps of the student.
        seeds: Seeds of the finished runs.
        methods: The methods in the order of the tables; the first is ``none``.
        environment: Where it was measured.
    """

    name: str
    student: str
    weights: str | None
    layout: str
    iterations: int
    seeds: list[int]
    methods: list[MethodRow]
    environment: Environment


def to_json(value: Any) -> Any:
    """Return a value of these types as what JSON holds: dicts, lists, strings, numbers and None."""
    if is_dataclass(value):
        kept = [f.name for f in fields(value) if f.default is MISSING or getattr(value, f.name) is not None]
        return {name: to_json(getattr(value, name)) for name in kept}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def from_json(kind: Any, value: Any) -> Any:
    """Return the value of type ``kind`` that :func:`to_json` turned into ``value``.

    Raises:
        KeyError: A key is missing. Keys that ``kind`` does not have are ignored.
        TypeError: A value is of another type.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if value is None else from_json(inner[0], value)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        named = [f.name for f in fields(kind) if f.default is MISSING or f.name in value]
        return kind(**{name: from_json(hints[name], value[name]) for name in named})  # type: ignore[operator]
    if kind is float:
        return math.nan if value is None else float(value)
    if not (kind is Any or isinstance(value, list if origin is tuple else origin or kind)):
        raise TypeError(f"{value!r} is not a {kind}")
    if origin is dict:
        return {inner[0](key): from_json(inner[1], item) for key, item in value.items()}
    if origin is list:
        return [from_json(inner[0], item) for item in value]
    if origin is tuple:
        return tuple(from_json(each, item) for each, item in zip(inner, value, strict=True))
    return value


def write_json(path: Path, value: Any) -> None:
    """Write a value of these types as JSON; the file is complete or absent."""
    write_text(path, json.dumps(to_json(value), indent=2, allow_nan=False) + "\n")


def read_json(kind: type[T], path: Path) -> T:
    """Read what :func:`write_json` wrote.

    Raises:
        RecipeError: The file is absent, or not one that this version writes.
    """
    if not path.is_file():
        raise RecipeError(f"{path.parent}: no {path.name}, so nothing that has finished; give the folder of a run")
    try:
        value: T = from_json(kind, json.loads(path.read_text(encoding="utf-8")))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RecipeError(
            f"{path}: made by an older ladseg, or changed ({type(error).__name__}: {first_words(error)}); run the "
            "command that made it again, which does not repeat what has been trained"
        ) from None
    return value


def read_if_complete(kind: type[T], path: Path) -> T | None:
    """Read what :func:`write_json` wrote; return None if the file is absent or an older version kept less in it."""
    try:
        return read_json(kind, path)
    except RecipeError:
        return None


def read_results(folder: Path) -> RunResults | ComparisonResults:
    """Read the ``results.json`` of a run's or a comparison's folder.

    Raises:
        RecipeError: The folder holds neither.
    """
    path = folder / RESULTS
    is_comparison = path.is_file() and '"methods"' in path.read_text(encoding="utf-8")
    return read_json(ComparisonResults, path) if is_comparison else read_json(RunResults, path)


def read_comparison(folder: Path) -> ComparisonResults:
    """Read the ``results.json`` of a comparison's folder.

    Raises:
        RecipeError: There is no comparison.
    """
    found = read_results(folder) if (folder / RESULTS).is_file() else None
    if not isinstance(found, ComparisonResults):
        raise RecipeError(f"{folder} is not the folder of a comparison; 'ladseg compare' makes one")
    return found
