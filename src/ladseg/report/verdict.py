"""Decide which conclusion the results of a run or a comparison allow, for terminal, page and JSON alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ladseg.results import MethodRow, NetworkRow, RunResults, Verdict

NOT_LEARNED = "not learned yet"
STILL_IMPROVING = "still improving"
NO_DIFFERENCE = "no difference shown"
AHEAD, BEHIND = "ahead in this run", "behind in this run"
BETTER, WORSE = "better", "worse"
# There is a single network, so there is nothing to compare.
ALONE = "not compared"

# A network has learned if its mIoU covers at least this share of the way from the constant prediction's mIoU to 1.
LEARNED = 0.02
# A curve is flat if the last quarter of the steps brought less than this share of the whole gain. The decay of the
# learning rate flattens the end of every curve: the demo's plain student still brings 4 to 8 % there, and gains a tenth
# more when it is trained for twice as long.
FLAT = 0.03
LAST_PART = 0.25


@dataclass(frozen=True)
class Learner:
    """A student of a run.

    Attributes:
        mean_iou: mIoU on the validation split.
        constant: mIoU of the best prediction of one class everywhere; None if unknown.
        steps: Number of training steps.
        curve: Step and mIoU of each evaluation during training.
    """

    mean_iou: float
    constant: float | None
    steps: int
    curve: Sequence[tuple[int, float]]

    @classmethod
    def of(cls, row: NetworkRow, results: RunResults) -> "Learner":
        """Make a learner from a row of a run's results."""
        return cls(row.mean_iou, results.constant_mean_iou, row.steps, row.validation_curve or [])

    @property
    def has_learned(self) -> bool:
        """Whether it is well above the best constant prediction; True if that is unknown."""
        return self.constant is None or self.mean_iou >= self.constant + LEARNED * (1 - self.constant)

    @property
    def is_still_improving(self) -> bool:
        """Whether its validation curve still rises at the end; False if it has too few evaluations.

        The rise of the best score since the last evaluation before the final quarter, scaled to a quarter of the steps,
        is compared with the whole gain in mIoU over the constant prediction.
        """
        start = (1 - LAST_PART) * self.steps
        before = [(step, score) for step, score in self.curve if step <= start]
        after = [(step, score) for step, score in self.curve if step > start]
        if not before or not after:
            return False
        rise = max(score for _, score in after) - max(score for _, score in before)
        quarters = (after[-1][0] - before[-1][0]) / (LAST_PART * self.steps)
        learned = max(score for _, score in self.curve) - (self.constant or 0.0)
        return rise > 0 and rise / quarters > FLAT * learned


def word_of(
    students: Sequence[Learner],
    others: Sequence[Learner],
    gain: float | None,
    interval: tuple[float, float] | None,
    seeds: int,
) -> str:
    """Return the conclusion, in a few words, that the evidence allows.

    Args:
        students: The networks to judge, one per seed.
        others: The networks to compare them with; empty for none.
        gain: The students' mean mIoU minus the reference's; None if unknown.
        interval: The 95 % interval of ``gain``: over the seeds, or over the images of a single run.
        seeds: Number of seeds over which ``gain`` is a mean.
    """
    learners = [*students, *others]
    if learners and not any(learner.has_learned for learner in learners):
        return NOT_LEARNED
    if any(_are_still_improving(group) for group in (students, others)):
        return STILL_IMPROVING
    if gain is None:
        return ALONE
    if gain == 0 or (interval is not None and interval[0] <= 0 <= interval[1]):
        return NO_DIFFERENCE
    if seeds > 1 and interval is not None:
        return BETTER if gain > 0 else WORSE
    return AHEAD if gain > 0 else BEHIND


def _are_still_improving(group: Sequence[Learner]) -> bool:
    """Return whether at least half of the networks still improve, so that one seed of many does not decide."""
    return bool(group) and 2 * sum(learner.is_still_improving for learner in group) >= len(group)


def run_verdict(results: RunResults) -> Verdict:
    """Return the verdict on the delivered network of a run.

    It never says ``"better"``: that takes several seeds.
    """
    learners = [Learner.of(results.networks[key], results) for key in results.students]
    compared = len(learners) == 2
    gain = learners[1].mean_iou - learners[0].mean_iou if compared else None
    interval = results.difference.interval if results.difference else None
    word = word_of(learners[-1:], learners[:-1], gain, interval, seeds=1)
    if compared:
        assert gain is not None
        sentences = [_meaning(word, results), _delivery(results), _better_teacher(results), _run_figures(results, gain)]
        return Verdict(word, " ".join(filter(None, sentences)))
    alone = f"{100 * learners[0].mean_iou:.2f} % mIoU"
    if teacher := _better_teacher(results):
        figures = f"The distilled student has {alone}; baseline was off, so the student alone is unknown. {teacher}"
    elif "student" in results.networks:
        figures = f"The distilled student has {alone}; baseline was off, so there is nothing to compare it with."
    else:
        figures = f"The student alone has {alone}; nothing was distilled."
    return Verdict(word, figures if word == ALONE else f"{_meaning(word, results)} {figures}")


def method_verdict(row: MethodRow, runs: Mapping[int, RunResults], alone: Mapping[int, RunResults]) -> Verdict | None:
    """Return the verdict on a method of a comparison; None for ``none`` itself and before a seed has finished.

    A method is judged against the plain student of equal total compute if the plain curve reaches so far, else against
    ``none``.

    Args:
        row: The method's row.
        runs: Its finished runs, by seed.
        alone: The finished runs of the student alone, ``none``, by seed.
    """
    common = runs.keys() & alone.keys()
    at_equal = row.gain_at_equal_total is not None
    if at_equal:
        gain, interval, seeds = row.gain_at_equal_total, row.interval_t, row.gain_seeds or len(common)
    elif row.difference is not None:
        gain, interval, seeds = row.difference.mean, row.difference.interval, len(common)
    else:
        return None
    assert gain is not None
    students, others = ([Learner.of(run.delivered, run) for run in group.values()] for group in (runs, alone))
    word = word_of(students, others, gain, interval, seeds)
    against = plain_of_equal_compute(row) if at_equal else "the student alone"
    figures = f"{100 * gain:+.2f} points against {against}"
    if interval is not None:
        figures += f", 95 % interval {100 * interval[0]:+.2f} to {100 * interval[1]:+.2f}"
    advice = {STILL_IMPROVING: ": train longer before you compare", NOT_LEARNED: ": train longer"}.get(word, "")
    return Verdict(word, f"{row.name}: {word}{advice} ({figures}; {seeds_of(seeds, row)}).")


def plain_of_equal_compute(row: MethodRow) -> str:
    """Return the opponent on the plain curve in words, with what its compute leaves out."""
    if row.teacher_existed:
        return "the plain student of equal compute, the existing teacher's cost not counted"
    return "the plain student of equal total compute"


def seeds_of(count: int, row: MethodRow) -> str:
    """Return a number of a method's seeds in words, such as ``"2 of 3 seeds"``; of all seeds, ``"3 seeds"``."""
    finished = len(row.mean_iou)
    return f"{count} seed{'s' * (count != 1)}" if count >= finished else f"{count} of {finished} seeds"


def _meaning(word: str, results: RunResults) -> str:
    """Return the verdict of a run in words."""
    compared = len(results.students) == 2
    if word == NOT_LEARNED:
        assert results.constant_mean_iou is not None
        subject = "Neither network has learned yet" if compared else "The network has not learned yet"
        constant = f"{100 * results.constant_mean_iou:.2f} % mIoU"
        return f"{subject}: one class everywhere would have {constant}; train longer."
    if word == STILL_IMPROVING:
        return f"Still improving: train longer{' before you compare' * compared}."
    if word == NO_DIFFERENCE:
        return "No difference shown between the distilled student and the student alone."
    return f"The distilled student is {word}."


def _delivery(results: RunResults) -> str | None:
    """Return which student is delivered, where a run has chosen one."""
    if results.delivers is None:
        return None
    name = "the distilled student" if results.delivers == "student" else "the student alone"
    scores = {network.mean_iou for key, network in results.networks.items() if key in ("baseline", "student")}
    return f"Delivered is {name}, {'the better one' if len(scores) > 1 else 'as good as the other'} on val."


def _better_teacher(results: RunResults) -> str | None:
    """Return a sentence on a teacher that is the better network to deliver; None if it is not.

    A teacher that sees labels can't predict images. One that costs more than the student is no substitute for it.
    """
    student, teacher = results.delivered, results.networks.get("teacher")
    if teacher is None or teacher.sees != "image" or teacher.mean_iou <= student.mean_iou:
        return None
    cost = "macs" if student.macs and teacher.macs else "parameters"
    if getattr(teacher, cost) > getattr(student, cost):
        return None
    return (
        f"The teacher has the higher mIoU on val, {100 * teacher.mean_iou:.2f} against the delivered student's "
        f"{100 * student.mean_iou:.2f} %, sees the image alone too and costs no more when it runs: it is the better "
        "one to deliver."
    )


def _run_figures(results: RunResults, gain: float) -> str:
    alone, student = (100 * results.networks[key].mean_iou for key in ("baseline", "student"))
    points = f"{100 * gain:+.2f} points"
    if results.difference and results.difference.interval is not None:
        low, high = (100 * value for value in results.difference.interval)
        points += f", 95 % interval {low:+.2f} to {high:+.2f} over the validation images"
    elif results.difference:
        points += f", without an interval: {results.difference.no_interval}"
    figures = (
        f"The distilled student has {student:.2f}, the student alone {alone:.2f} % mIoU ({points}; one seed, so repeat "
        "with other seeds before relying on it)."
    )
    if not results.student_starts_warm:
        return figures
    steps = results.networks["student"].steps
    return (
        f"{figures} It went on from the student alone for {steps:,} more steps; 'ladseg compare' shows what plain "
        "training makes of those and of the teacher's."
    )
