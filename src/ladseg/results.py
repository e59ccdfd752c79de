"""The typed results that ladseg keeps on disk, and their conversion to and from JSON.

Every key of ``results.json``, ``row.json``, ``costs.json``, ``samples.json``, ``environment.json`` and of the file
that ``ladseg eval`` writes is the name of a field here, and is spelled nowhere else. In JSON, NaN is null, and a field
with a default is left out if it is None. Scores (mIoU, IoU, pixel accuracy) are in 0..1.
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
from ladseg.recipe_values import shown

T = TypeVar("T")

# The results file in the folder of a run or of a comparison.
RESULTS = "results.json"
# Files in the folder of a run: the delivered network, and the other student by its training, if there are two.
STUDENT = "student.safetensors"
OTHER_STUDENT = {"baseline": "plain.safetensors", "student": "distilled.safetensors"}
# The trained teacher, for the next student; in the teacher's own folder where several runs share it.
TEACHER_FILE = "teacher.safetensors"


def cell_folder(folder: Path, method: str, seed: int) -> Path:
    """Return the folder of one run of a comparison, from the comparison's."""
    return folder / f"seed-{seed}" / method


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The software and machine that produced results.

    Attributes:
        seed: The run's seed; None for a comparison, which has several.
        python: Version of Python.
        packages: Versions of the packages on which the results depend.
        machine: Processor architecture.
        system: Operating system.
        processor: Name and number of the CPUs.
        threads: Number of threads that torch used.
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
    """The conclusion that results allow; :mod:`ladseg.report.verdict` makes it.

    Attributes:
        word: The conclusion in a few words, such as ``"no difference shown"``.
        sentence: The conclusion with its reason and the figures.
    """

    word: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class NetworkRow:
    """A trained network of a run.

    Attributes:
        model: Name of the network.
        sees: Its input, ``"image"`` or ``"image + noised label"``.
        parameters: Number of parameters that prediction uses.
        macs: Multiply-accumulates of one prediction at the training crop's size.
        mean_iou: mIoU of the delivered weights on the whole validation split.
        pixel_accuracy: Pixel accuracy on the whole validation split.
        iou: IoU of each class; NaN for a class that occurs in neither labels nor predictions.
        best_step: Number of training steps after which the delivered weights were taken.
        last_mean_iou: mIoU after the last step; None without evaluations.
        test_mean_iou: mIoU on the test split, with the same weights as ``mean_iou``; None without such a split.
        steps: Number of training steps.
        precision: ``"fp32"`` or ``"bf16"``.
        seconds: Seconds spent in training steps.
        peak_memory: Peak memory of the training in bytes; None if it was not measured.
        mean_iou_without_label: mIoU of a label-assisted teacher with zeros as the noised label (section 4.2).
        mean_iou_without_image: mIoU of a label-assisted teacher with the mean colour as the image (section 4.2).
        mean_kl_between_draws: KL_mean of a label-assisted teacher in nats per pixel (section 4.3, Table 8).
        first_stage_seconds: Seconds of training the first stage of a student's distiller.
        folder: The training's folder, relative to the run's.
        validation_curve: Step and mIoU of each evaluation during training.
        gradient_ratio: Of a distilled student, the strength of distillation relative to the label: the norm of its
            gradient on the logits over that of the class loss, median of the logged steps.
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
    gradient_ratio: float | None = None
    test_mean_iou: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.mean_iou <= 1:
            raise ValueError(f"a mIoU of {self.mean_iou}")


@dataclass(frozen=True)
class MeasuredRow:
    """A network's row as saved in the training's folder.

    Attributes:
        measured_on: Fingerprint of the validation split.
        row: The row.
    """

    measured_on: str
    row: NetworkRow


@dataclass(frozen=True)
class ImageCounts:
    """Numbers of images in the splits; test is None where none was named."""

    train: int
    val: int
    test: int | None = None


@dataclass(frozen=True)
class Difference:
    """The distilled student's mIoU minus that of the student alone.

    Attributes:
        mean_iou: The difference.
        interval: Its 95 % interval by a paired bootstrap over the validation images; None if there is none.
        no_interval: Why there is no interval.
    """

    mean_iou: float
    interval: tuple[float, float] | None
    no_interval: str | None = None


@dataclass(frozen=True)
class PredictionTime:
    """The prediction time of the delivered network.

    Attributes:
        size: Height and width of the image.
        seconds: Median seconds per image in float32.
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
        iterations: Number of training steps of the student.
        class_names: Class names in the order of the class ids.
        colors: One RGB colour per class, 0..255.
        images: Number of images in the splits.
        crop: Height and width of the training crops.
        networks: The networks that the run trained, under ``"baseline"``, ``"teacher"`` and ``"student"``.
        difference: The gain by distillation; None without both students.
        prediction: Prediction time of the delivered network.
        constant_mean_iou: mIoU on the validation split of the best prediction of one class everywhere.
        verdict: The conclusion that the results allow.
        delivers: Key of the delivered student, the better one on val; None in a comparison, which delivers the
            method's own.
        student_starts_warm: Whether the distilled student continued from the student alone.
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
    delivers: str | None = None
    student_starts_warm: bool | None = None

    @property
    def delivered_key(self) -> str:
        """Key of the network that the run delivers: where nothing else was chosen, the last student."""
        return self.delivers or self.students[-1]

    def __post_init__(self) -> None:
        if not {"baseline", "student"} & self.networks.keys():
            raise ValueError("no student among the networks")
        lengths = {len(self.class_names), len(self.colors), *(len(row.iou) for row in self.networks.values())}
        if len(lengths) > 1:
            raise ValueError("class names, colours and IoU of different numbers of classes")

    @property
    def delivered(self) -> NetworkRow:
        """The network that the run delivers."""
        return self.networks[self.delivered_key]

    @property
    def students(self) -> list[str]:
        """Keys of the students that were trained: ``"baseline"``, ``"student"`` or both."""
        return [key for key in ("baseline", "student") if key in self.networks]


@dataclass(frozen=True)
class Sample:
    """A validation image whose pictures the report shows.

    Attributes:
        index: Its index in the validation split.
        name: File name of the image.
        group: Why it was chosen: ``"gained"``, ``"lost"``, ``"worst"`` or ``"spread"``.
        mean_iou: mIoU on this image by network; NaN for an image without labels.
        files: Names of the picture files by what they show.
    """

    index: int
    name: str
    group: str
    mean_iou: dict[str, float]
    files: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class EvaluationResults:
    """The results of ``ladseg eval``: a delivered network's accuracy on a data set.

    Attributes:
        weights: The weights file.
        split: The split.
        images: Number of images.
        inference: How images were predicted, as the fields of :class:`ladseg.Inference`.
        boundary: Width of the boundaries of boundary IoU as a share of the image's diagonal.
        mean_iou: Mean IoU over the classes that occur.
        mean_boundary_iou: Mean boundary IoU over the classes that occur.
        pixel_accuracy: Share of correct pixels among the counted ones.
        class_names: Class names in the order of the class ids.
        iou: Per-class IoU; NaN for a class that occurs in neither labels nor predictions.
        boundary_iou: Per-class boundary IoU; NaN likewise.
        confusion: Confusion matrix of the counted pixels; row = label, column = prediction.
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
    """The cost of a network's prediction.

    Attributes:
        parameters: Number of parameters that prediction uses.
        macs: Multiply-accumulates for one image of the training crop's size.
    """

    parameters: int
    macs: int


@dataclass(frozen=True)
class StepTime:
    """The time and memory of a training step on this machine.

    Attributes:
        milliseconds: Median time of the forward passes of student and teacher, losses, backward pass and update.
        memory: Bytes of weights, optimizer state and the step's own peak; None if unknown.
    """

    milliseconds: float
    memory: int | None


@dataclass(frozen=True)
class MethodCost:
    """The costs of a method.

    Attributes:
        step_macs: Multiply-accumulates of one step, for each training on which its student depends.
        student: The delivered network.
        teacher: The network that it learns from; None without one.
        recipe: A hash of the settings for which the costs were counted.
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
        parameters: Number of parameters that prediction uses.
        macs: Multiply-accumulates for one image of the training crop's size.
        existed: True for a teacher that was there before the comparison, whose training is not counted; else None.
    """

    name: str
    model: str
    parameters: int
    macs: int
    existed: bool | None = None


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
        mean: Mean mIoU over the seeds; None before a seed has finished.
        std: Standard deviation of the mIoU over the seeds; None for fewer than two.
        difference: Paired difference from ``none``; None for ``none`` itself and without a common seed.
        against_long: Paired difference from ``none-long``; None likewise.
        seconds: Mean seconds in the student's training steps.
        teacher_seconds: Mean seconds in the training steps of all networks on which the student's training builds.
        macs: Multiply-accumulates of all trainings for the student, its own included.
        step_ms: Milliseconds of the student's training step; None if it was not timed.
        step_memory: Bytes that the step needs; None if unknown.
        student: The delivered network.
        teacher: The network that it learns from; None without one.
        last_mean: Mean of the mIoU after the last step, whereas ``mean`` is that of the best evaluation.
        test_mean: Mean over the seeds of the mIoU on the test split; None without one.
        test_std: Its standard deviation; None for fewer than two seeds.
        test_difference: Paired difference from ``none`` on the test split; None for ``none`` itself.
        compute_total: ``macs`` as a multiple of those of ``none``.
        compute_marginal: The same multiple for one more student of an existing teacher.
        gain_at_equal_total: Mean over seeds of the mIoU minus that of the seed's own plain curve at ``compute_total``.
            This and the following fields are None if the curve does not reach so far, and for the student alone.
        gain_at_equal_marginal: The same at ``compute_marginal``.
        break_even_students: Number of students from which their common teacher pays off; None if no number suffices
            or the plain curve does not reach so far, for a method without a teacher, and for a teacher that existed.
        gain_seeds: Number of seeds over which both gains are means: those that have a plain curve.
        p_sign_flip: Two-sided p of the exact sign-flip test of ``gain_at_equal_total``.
        p_holm: ``p_sign_flip`` adjusted for the number of methods.
        interval_t: 95 % interval of ``gain_at_equal_total`` by Student's t.
        interval_bca: The same by the BCa bootstrap over seeds.
        smallest_effect: The gain that a t test with this many seeds and this spread finds with a power of 0.8.
        marginal_p_sign_flip: As ``p_sign_flip``, but of ``gain_at_equal_marginal``.
        marginal_interval_t: As ``interval_t``, but of ``gain_at_equal_marginal``.
        verdict: The conclusion that the seeds allow; None for ``none`` itself and before a seed has finished.
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
    test_mean: float | None = None
    test_std: float | None = None
    test_difference: MeanInterval | None = None
    compute_total: float | None = None
    compute_marginal: float | None = None
    gain_at_equal_total: float | None = None
    gain_at_equal_marginal: float | None = None
    gain_seeds: int | None = None
    break_even_students: int | None = None
    p_sign_flip: float | None = None
    p_holm: float | None = None
    interval_t: tuple[float, float] | None = None
    interval_bca: tuple[float, float] | None = None
    smallest_effect: float | None = None
    marginal_p_sign_flip: float | None = None
    marginal_interval_t: tuple[float, float] | None = None
    verdict: Verdict | None = None

    @property
    def teacher_existed(self) -> bool:
        """Whether its teacher was there before the comparison, so that no compute counts the teacher's training."""
        return self.teacher is not None and bool(self.teacher.existed)


@dataclass(frozen=True, kw_only=True)
class ComparisonResults:
    """A comparison of methods.

    Attributes:
        name: Name of the recipe that the methods share.
        student: Name of the student's network.
        weights: The student's initial weights; None for random weights.
        layout: Layout of the data set.
        iterations: Number of training steps of the student.
        seeds: Seeds of the finished runs.
        methods: The methods in the order of the tables; the first is ``none``.
        environment: The software and machine that produced the results.
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
    """Convert a value of these types to JSON's: dicts, lists, strings, numbers and None."""
    if is_dataclass(value):
        kept = [f.name for f in fields(value) if f.default is MISSING or getattr(value, f.name) is not None]
        return {name: to_json(getattr(value, name)) for name in kept}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def from_json(kind: Any, value: Any) -> Any:
    """Return the value of type ``kind`` that :func:`to_json` converted to ``value``.

    Raises:
        ValueError: A key is missing. Keys that ``kind`` does not have are ignored.
        TypeError: A value is of another type.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if value is None else from_json(inner[0], value)
    if is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise TypeError(f"{shown(value)} is not a mapping of keys")
        hints = get_type_hints(kind)
        named = [f.name for f in fields(kind) if f.default is MISSING or f.name in value]
        missing = [name for name in named if name not in value]
        if missing:
            raise ValueError(f"no key '{missing[0]}'")
        return kind(**{name: from_json(hints[name], value[name]) for name in named})  # type: ignore[operator]
    if kind is float:
        return math.nan if value is None else float(value)
    if not (kind is Any or isinstance(value, list if origin is tuple else origin or kind)):
        raise TypeError(f"{shown(value)} is not of type {getattr(kind, '__name__', kind)}")
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


def load_json(path: Path) -> Any:
    """Return the plain values of a JSON file.

    Raises:
        OSError: The file can't be read.
        ValueError: It is no JSON in UTF-8, or nested without end.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(kind: type[T], path: Path) -> T:
    """Read what :func:`write_json` wrote.

    Raises:
        RecipeError: The file is absent or does not have this version's format.
    """
    if not path.is_file():
        raise RecipeError(f"{path.parent}: no {path.name}, so nothing has finished here; give the folder of a run")
    try:
        value: T = from_json(kind, load_json(path))
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise RecipeError(
            f"{path}: made by an older ladseg, or changed ({first_words(error)}); run the "
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
    is_comparison = path.is_file() and b'"methods"' in path.read_bytes()
    return read_json(ComparisonResults, path) if is_comparison else read_json(RunResults, path)


def read_comparison(folder: Path) -> ComparisonResults:
    """Read the ``results.json`` of a comparison's folder.

    Raises:
        RecipeError: The folder holds no comparison.
    """
    found = read_results(folder) if (folder / RESULTS).is_file() else None
    if not isinstance(found, ComparisonResults):
        raise RecipeError(f"{folder} is not the folder of a comparison; 'ladseg compare' makes one")
    return found
