"""What happens when: the learning rate of a step, and after which steps to evaluate, save and log."""

import math

from ladseg.recipe import Schedule


def learning_rate(step: int, schedule: Schedule) -> float:
    """Return the learning rate of a step.

    It is ``(min_lr + (lr - min_lr) * decay) * ramp``. The decay is that of :func:`poly_lr`, or for cosine
    ``(1 + cos(pi * step / iterations)) / 2``. The ramp grows linearly to 1 in the first ``warmup`` steps, from
    ``warmup_ratio``; without one it is ``(step + 1) / warmup``.

    Args:
        step: Steps already done.
        schedule: How the network is trained.

    Source:
        With ``warmup_ratio``, the poly and cosine policies of mmcv 1.x with linear warm-up by iterations.
    """
    above = schedule.lr - schedule.min_lr
    if schedule.decay == "poly":
        lr = schedule.min_lr + poly_lr(step, above, schedule.iterations, power=schedule.power)
    else:
        lr = schedule.min_lr + above * (1 + math.cos(math.pi * step / schedule.iterations)) / 2
    if schedule.warmup_ratio is None or schedule.warmup == 0:
        return lr * min(1.0, (step + 1) / max(schedule.warmup, 1))
    return lr * min(1.0, schedule.warmup_ratio + (1 - schedule.warmup_ratio) * step / schedule.warmup)


def poly_lr(step: int, lr: float, iterations: int, warmup: int = 0, power: float = 0.9) -> float:
    """The learning rate of one step: polynomial decay, times a linear warm-up.

    ``lr * (1 - step / iterations) ** power``, times ``(step + 1) / warmup`` in the first ``warmup`` steps.
    A function of the step alone, so that a resumed run needs no scheduler state.

    Args:
        step: Steps already done, ``0 <= step < iterations``.
        lr: Peak learning rate.
        iterations: Steps of the whole training.
        warmup: Steps of linear warm-up; 0 for none.
        power: Exponent of the decay.
    """
    decay = (1 - step / iterations) ** power
    return lr * decay * min(1.0, (step + 1) / max(warmup, 1))


def is_due(step: int, every: int | None, iterations: int) -> bool:
    """Whether something that happens every so many steps, and at the end, happens after ``step`` steps.

    Args:
        step: Steps done.
        every: Steps between two times; None spreads five times evenly, the last one at the end.
        iterations: Steps of the whole training.
    """
    period = _period(every, iterations)
    return step > 0 and (step % period == 0 or step == iterations)


def _period(every: int | None, iterations: int) -> int:
    return every or max(1, -(-iterations // 5))


def is_over(step: int, best_step: int, schedule: Schedule) -> bool:
    """Whether a training ends after ``step`` steps: all are done, or ``early_stop`` evaluations gave nothing better.

    Args:
        step: Steps done.
        best_step: Steps done at the best evaluation.
        schedule: How the network is trained.
    """
    if step == schedule.iterations or schedule.early_stop is None:
        return step == schedule.iterations
    period = _period(schedule.eval_every, schedule.iterations)
    return step // period - best_step // period >= schedule.early_stop


def is_delivered(step: int, best_step: int, schedule: Schedule) -> bool:
    """Whether the weights after ``step`` steps are the ones to deliver so far; arguments as for :func:`is_over`."""
    return step == best_step or (schedule.deliver == "last" and is_over(step, best_step, schedule))


def evaluation_is_due(step: int, schedule: Schedule) -> bool:
    """Whether the network is evaluated after ``step`` steps."""
    return is_due(step, schedule.eval_every, schedule.iterations)


def save_is_due(step: int, schedule: Schedule) -> bool:
    """Whether a checkpoint is written after ``step`` steps.

    Always after an evaluation too: else a resumed run would not know which weights were the best ones.
    """
    saved_anyway = schedule.save_every is not None and is_due(step, schedule.save_every, schedule.iterations)
    return saved_anyway or evaluation_is_due(step, schedule)


def log_is_due(step: int, schedule: Schedule) -> bool:
    """Whether the loss terms are checked and logged after ``step`` steps.

    Every 20 steps, oftener in short trainings. Reading the terms is the only time that the loop waits for
    the device. Also before a save: nothing is saved unchecked, and the terms of a resumed run average over
    the same steps.
    """
    return is_due(step, min(20, -(-schedule.iterations // 100)), schedule.iterations) or save_is_due(step, schedule)
