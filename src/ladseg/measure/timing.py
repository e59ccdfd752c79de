"""Time several variants in turns within one process, so that a drift of the machine's speed cancels out."""

import math
import statistics
import time
from collections.abc import Callable, Mapping

import torch


def in_turns(
    variants: Mapping[str, Callable[[], object]],
    device: torch.device,
    rounds: int = 15,
    patience: float = 90.0,
    fewest: int = 3,
    shortest: float = 0.0,
) -> dict[str, list[float]]:
    """Return the seconds of each variant in each round, after one round to warm up.

    Args:
        variants: The functions to time, by name.
        device: Where they run; it is synchronised before the clock is read.
        rounds: Number of timed rounds.
        patience: Seconds after which no further round is started.
        fewest: Least number of rounds, however long they take.
        shortest: Least number of seconds to time: a faster variant is repeated, and the time divided by the repeats.
    """
    times = {}
    for name, run in variants.items():
        _seconds(run, device)
        times[name] = max(1, math.ceil(shortest / _seconds(run, device))) if shortest else 1
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    begin = time.perf_counter()
    for done in range(rounds):
        if done >= fewest and time.perf_counter() - begin > patience:
            break
        for name, run in variants.items():
            seconds[name].append(_seconds(run, device, times[name]))
    return seconds


def ratio(of: list[float], to: list[float]) -> dict[str, float]:
    """Return the median and the quartiles, over rounds, of the ratio of one variant's time to another's."""
    low, median, high = quartiles([a / b for a, b in zip(of, to, strict=True)])
    return {"median": median, "low": low, "high": high}


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Return the quartiles of the values."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, median, high


def _seconds(run: Callable[[], object], device: torch.device, times: int = 1) -> float:
    begin = time.perf_counter()
    for _ in range(times):
        run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - begin) / times
