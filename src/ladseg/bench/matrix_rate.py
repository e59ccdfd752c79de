"""What this machine's matrix products reach: the ceiling of what a network's step can."""

import statistics

import torch

from ladseg.bench.setting import Setting
from ladseg.measure.step_costs import autocast
from ladseg.measure.timing import in_turns

# Rows of the square factors: large enough for the rate to be the device's own.
SIDE = {"cpu": 2048, "cuda": 8192}


@torch.no_grad()
def matrix_rate(setting: Setting) -> float:
    """Multiply-accumulates a second of a square matrix product, in the precision that a training takes here."""
    side = SIDE.get(setting.device.type, SIDE["cpu"])
    with autocast("auto", setting.device):
        dtype = (torch.ones(1, 1, device=setting.device) @ torch.ones(1, 1, device=setting.device)).dtype
    one, other = (torch.randn(side, side, device=setting.device).to(dtype) for _ in range(2))
    seconds = in_turns({"": lambda: one @ other}, setting.device, patience=5.0)[""]
    return side**3 / statistics.median(seconds)
