"""The learning rate of a step, and the steps after which to evaluate, save and log."""

import math

from ladseg.recipe import Schedule


def learning_rate(step: int, schedule: Schedule) -> float:
    """Return the learning rate of a step.

    It is ``(min_lr + (lr - min_lr) * decay) * ramp``. The decay is that of :func:`poly_lr`, or
    ``(1 + cos(pi * step / iterations)) / 2`` for cosine. The ramp rises linearly to 1 in the first ``warmup`` steps,
    from ``warmup_ratio`` if that is set; otherwise it is ``(step + 1) / warmup``.

    Args:
        step: Number of steps already done.
        schedule: The training schedule.

    Source:
        With ``warmup_ratio``, these are the poly and cosine policies of mmcv 1.x with linear warm-up by iterations.
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
    """Return the learning rate of one step, with polynomial decay and linear warm-up.

    It is ``lr * (1 - step / iterations) ** power``, times ``(step + 1) / warmup`` in the first ``warmup`` steps. It
    depends on the step alone, so that a resumed run needs no scheduler state.

    Args:
        step: Number of steps already done, ``0 <= step < iterations``.
        lr: Peak learning rate.
        iterations: Number of steps of the whole training.
        warmup: Number of warm-up steps; 0 for none.
        power: Exponent of the decay.
    """
    decay = (1 - step / iterations) ** power
    return lr * decay * min(1.0, (step + 1) / max(warmup, 1))


def is_due(step: int, every: int | None, iterations: int) -> bool:
    """Return whether an action that recurs every ``every`` steps, and at the end, is due after ``step`` steps.

    Args:
        step: Number of steps done.
        every: The period in steps; None means five times in the whole training, the last one at the end.
        iterations: Number of steps of the whole training.
    """
    period = _period(every, iterations)
    return step > 0 and (step % period == 0 or step == iterations)


def _period(every: int | None, iterations: int) -> int:
    return every or max(1, -(-iterations // 5))


def is_over(step: int, best_step: int, schedule: Schedule) -> bool:
    """Return whether a training ends after ``step`` steps, at the schedule's end or by early stopping.

    It stops early when ``early_stop`` evaluations in a row have not improved on the best.

    Args:
        step: Number of steps done.
        best_step: Number of steps done at the best evaluation.
        schedule: The training schedule.
    """
    if step == schedule.iterations or schedule.early_stop is None:
        return step == schedule.iterations
    period = _period(schedule.eval_every, schedule.iterations)
    return step // period - best_step // period >= schedule.early_stop


def is_delivered(step: int, best_step: int, schedule: Schedule) -> bool:
    """Return whether the weights after ``step`` steps are to be delivered; for the arguments see :func:`is_over`."""
    return step == best_step or (schedule.deliver == "last" and is_over(step, best_step, schedule))


def evaluation_is_due(step: int, schedule: Schedule) -> bool:
    """Return whether the network is evaluated after ``step`` steps."""
    return is_due(step, schedule.eval_every, schedule.iterations)


def save_is_due(step: int, schedule: Schedule) -> bool:
    """Return whether a checkpoint is written after ``step`` steps.

    Every evaluation is followed by one, so that a resumed run knows which weights were the best.
    """
    scheduled = schedule.save_every is not None and is_due(step, schedule.save_every, schedule.iterations)
    return scheduled or evaluation_is_due(step, schedule)


def log_is_due(step: int, schedule: Schedule) -> bool:
    """Return whether the loss terms are checked and logged after ``step`` steps.

    They are, every 20 steps, or more often in short trainings, since the loop waits for the device only to read them.
    They also are before each save, so that nothing is saved unchecked and a resumed run averages over the same steps.
    """
    return is_due(step, min(20, -(-schedule.iterations // 100)), schedule.iterations) or save_is_due(step, schedule)
