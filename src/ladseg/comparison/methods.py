"""The methods of ``ladseg compare``, each as a recipe."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ladseg.distillation_methods import METHODS as DISTILLERS
from ladseg.errors import RecipeError, nearest
from ladseg.recipe import Distill, Placebo, Recipe, TeacherSettings

# The student alone, and the student alone trained with the total compute of LAD.
NONE, NONE_LONG = "none", "none-long"
# The same two with a moving average of the student's weights, as further controls.
NONE_EMA, NONE_LONG_EMA = "none-ema", "none-long-ema"
# Methods whose number of steps follows from counted costs.
LONG = (NONE_LONG, NONE_LONG_EMA)
# Decay of the moving average if the recipe sets none.
EMA = 0.999
# The student alone, trained for a multiple of the steps: none-2x, none-4x ...
NONE_TIMES = re.compile(r"none-([1-9]\d*)x")
# The lengths of the plain curve that a comparison trains, as multiples of the schedule.
PLAIN_LENGTHS = (1, 2, 4, 8)
# LAD's distillation without a trained teacher: from the student itself half way, and from the finished plain student.
SNAPSHOT, SELF = "snapshot", "self"
SNAPSHOT_TEACHER = TeacherSettings(label_assisted=False, snapshot=0.5)
PLAIN_TEACHER = TeacherSettings(label_assisted=False, warm_start=True, train=False)
# LAD as in the recipe, and LAD that starts from the trained plain student.
LAD, LAD_WARM = "lad", "lad-warm"
RIVALS = tuple(name for name in DISTILLERS if name != "none")
# Term weights that a method's authors chose for one data set, by method and layout.
OWN_WEIGHTS = {("cirkd", "voc"): {"cirkd_pixel": 0.01, "cirkd_region": 0.01}}
METHODS = (NONE, NONE_LONG, NONE_EMA, NONE_LONG_EMA, SNAPSHOT, SELF, LAD, LAD_WARM, *RIVALS)
# What LAD's teacher may be shown in place of the label, as a control: lad+shuffled, kd+noise ...
PLACEBOS: tuple[Placebo, ...] = ("shuffled", "noise")


@dataclass(frozen=True)
class Method:
    """A method of a comparison.

    Attributes:
        name: Its unique name in the comparison, such as ``kd+self``.
        recipe: Its recipe, which differs from those of the other methods only in teacher and distillation or, for the
            student alone, in the number of steps and the averaging of weights.
        teacher: Name of the teacher's training, which the methods of one seed share; None without a teacher.
    """

    name: str
    recipe: Recipe
    teacher: str | None


def make_method(base: Recipe, word: str, teacher: TeacherSettings) -> Method:
    """Return the method with a name.

    Args:
        base: The recipe that all methods share.
        word: One of ``METHODS``, or a name like ``none-4x``: the student alone, trained for four times the steps. A
            distiller may name its teacher: ``kd+label``, the label-assisted one; ``kd+self``, the student's own
            network, which sees no label and is trained for as many passes as the label-assisted one; or ``kd+MODEL``,
            any other network. ``kd+shuffled`` and ``kd+noise``, also of LAD, are placebos: the label-assisted teacher
            sees another image's label, or noise.
        teacher: The teacher of a distiller that names none.

    Raises:
        RecipeError: There is no such method.
    """
    base = with_one_start(base)
    name, plus, own = word.partition("+")
    if times := NONE_TIMES.fullmatch(word):
        plain = Method(word, replace(base, distill=Distill(method="none")), None)
        return lengthened(plain, int(times[1]) * base.schedule.iterations)
    if name not in METHODS or (plus and name not in RIVALS and not (name in (LAD, LAD_WARM) and own in PLACEBOS)):
        raise RecipeError(f"--methods: no method is called '{word}'{nearest(name, METHODS)}")
    if plus and not own:
        raise RecipeError(f"--methods: '{word}' names no teacher; write {name}+label, {name}+self or {name}+MODEL")
    if name in (NONE, NONE_LONG):
        return Method(name, replace(base, distill=Distill(method="none")), None)
    if name in (NONE_EMA, NONE_LONG_EMA):
        schedule = replace(base.schedule, ema=base.schedule.ema or EMA)
        return Method(name, replace(base, distill=Distill(method="none"), schedule=schedule), None)
    if name == SNAPSHOT:
        distill = replace(_distill_of_lad(base), start=None)  # the snapshot says when it begins
        return Method(name, replace(base, distill=distill, teacher=SNAPSHOT_TEACHER), None)
    if name == SELF:
        return Method(name, replace(base, distill=_distill_of_lad(base), teacher=PLAIN_TEACHER), "plain")
    if name in (LAD, LAD_WARM):
        return _lad(base, name, next((placebo for placebo in PLACEBOS if placebo == own), None))
    named = {"label": label_teacher(base), "self": self_teacher(base)}
    named |= {placebo: replace(named["label"], placebo=placebo) for placebo in PLACEBOS}
    if teacher not in named.values():
        named[teacher.model or base.student.model] = teacher
    chosen = (named.get(own) or classic_teacher(base, own)) if own else teacher
    if own in PLACEBOS:
        _refuse_as_placebo(label_teacher(base), word)
    teacher_name = _file_name(next((word for word, one in named.items() if one == chosen), own))
    return Method(f"{name}+{teacher_name}", replace(base, distill=_rival(base, name), teacher=chosen), teacher_name)


def with_one_start(base: Recipe) -> Recipe:
    """Return the recipe of a comparison, in which no student has the steps of another unless the recipe says so."""
    return replace(base, distill=replace(base.distill, warm_start=bool(base.distill.warm_start)))


def _rival(base: Recipe, name: str) -> Distill:
    """Return a distiller with its own default weights, but the recipe's noise and feature layer."""
    shared = base.distill
    return Distill(
        method=name,
        layer=shared.layer if DISTILLERS[name].layer else None,
        term_weights=OWN_WEIGHTS.get((name, base.data.layout)),
        warm_start=False,
        start=shared.start,
        alpha=shared.alpha,
        class_weights=shared.class_weights,
    )


def from_own_weights(method: Method) -> Method:
    """Return the method for an already trained student, from whose weights teacher and student start."""
    teacher = replace(method.recipe.teacher, warm_start=False, weights=None)
    distill = replace(method.recipe.distill, warm_start=False)
    return replace(method, recipe=replace(method.recipe, teacher=teacher, distill=distill))


def is_on_plain_curve(name: str) -> bool:
    """Return whether a method is the student alone, trained by the recipe for any number of steps."""
    return name in (NONE, NONE_LONG) or NONE_TIMES.fullmatch(name) is not None


def plain_words(lengths: Sequence[int]) -> list[str]:
    """Return the names of the plain curve's methods: ``none``, and ``none-Nx`` for the other lengths, ascending."""
    return [NONE, *(f"none-{times}x" for times in sorted(set(lengths)) if times != 1)]


def lengthened(method: Method, iterations: int) -> Method:
    """Return the method with another number of steps and as many evaluations."""
    schedule = method.recipe.schedule
    every = schedule.eval_every
    if every is not None:
        every = math.ceil(iterations / math.ceil(schedule.iterations / every))
    schedule = replace(schedule, iterations=iterations, eval_every=every)
    return replace(method, recipe=replace(method.recipe, schedule=schedule))


def default_teacher(base: Recipe) -> TeacherSettings:
    """Return the recipe's teacher if it is classic, else the student's own network as a classic teacher."""
    return self_teacher(base) if base.teacher.label_assisted else base.teacher


def classic_teacher(base: Recipe, model: str, weights: str | None = None) -> TeacherSettings:
    """Return a teacher that sees the image alone and is trained for the whole schedule from its own initial weights."""
    return TeacherSettings(
        label_assisted=False,
        model=model,
        weights=weights,
        warm_start=False,
        lr=base.teacher.lr,
        weight_decay=base.teacher.weight_decay,
    )


def self_teacher(base: Recipe) -> TeacherSettings:
    """Return LAD's teacher without the label, trained for twice the steps where LAD's has two paths a step."""
    steps = base.teacher.iterations or base.schedule.iterations
    return replace(_of_the_students_model(base), label_assisted=False, iterations=label_teacher(base).paths * steps)


def label_teacher(base: Recipe) -> TeacherSettings:
    """Return LAD's teacher: the recipe's, or the student's network if the recipe's teacher is classic."""
    return replace(base.teacher if base.teacher.label_assisted else _of_the_students_model(base), label_assisted=True)


def _of_the_students_model(base: Recipe) -> TeacherSettings:
    teacher = replace(base.teacher, snapshot=None, placebo=None)
    if teacher.train and base.teacher_is_students_model:
        return teacher
    return replace(
        teacher,
        model=None,
        args=None,
        weights=None,
        output_stride=None,
        features=None,
        aux_weight=None,
        train=True,
        classes=None,
        class_names=None,
        input=None,
    )


def _distill_of_lad(base: Recipe) -> Distill:
    return base.distill if base.distill.method != "none" else Distill(warm_start=False)


def _lad(base: Recipe, name: str, placebo: Placebo | None) -> Method:
    distill = _distill_of_lad(base)
    teacher = label_teacher(base)
    if name == LAD_WARM:
        # A teacher that is widened by zeros starts with the trained student's predictions.
        steps = teacher.iterations or max(1, base.schedule.iterations // 2)
        own = replace(_of_the_students_model(base), label_assisted=True)
        teacher = replace(own, warm_start=True, slice_std=0.0, iterations=steps)
        distill = replace(distill, warm_start=True)
    folder = (placebo or "label") + "-warm" * (name == LAD_WARM)
    if placebo is not None:
        _refuse_as_placebo(teacher, f"{name}+{placebo}")
        name, teacher = f"{name}+{placebo}", replace(teacher, placebo=placebo)
    return Method(name, replace(base, teacher=teacher, distill=distill), folder)


def _refuse_as_placebo(teacher: TeacherSettings, word: str) -> None:
    """Refuse a finished teacher as a placebo's: what that is shown instead of the label, it has to learn from too."""
    if teacher.finished_file is not None:
        raise RecipeError(
            f"--methods: the teacher of '{word}' is trained on what it sees in place of the label, and "
            f"{teacher.finished_file} was not; compare it without this teacher, or with --teacher-from a run that was "
            f"trained with --teacher.placebo {word.partition('+')[2]}"
        )


def _file_name(model: str) -> str:
    return "".join(c if c.isalnum() or c in "._@-" else "-" for c in model)
