"""What happens when: the learning rate of a step, and after which steps to evaluate, save and log."""

from ladseg.recipe import Schedule


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
    period = every or max(1, -(-iterations // 5))
    return step > 0 and (step % period == 0 or step == iterations)


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
