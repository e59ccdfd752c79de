"""The plain student, and the candidates' training, which branches from it."""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ladseg.outputs import SegmentationOutput
from ladseg.seeds import derive_seed
from ladseg.training.schedule import poly_lr

from .batches import Stream
from .networks import MovingAverage, forward, network, optimizer, set_lr, supervision
from .records import evaluate, finish, miou
from .setting import CALIBRATION, SETTINGS, SHARED, WARMUP, Batch, Terms, weights_file


def plain(name: str, setting: str, seed: int, total: int, trunk_end: int | None) -> None:
    began = time.process_time()
    net = network(setting, seed).train()
    opt, average, stream = optimizer(net), MovingAverage(net), Stream(setting, seed)
    torch.manual_seed(derive_seed(seed, "dropout"))
    row = {"name": name, "setting": setting, "seed": seed, "units": total}
    for step in range(total):
        if step == trunk_end:
            state = {"net": net.state_dict(), "opt": opt.state_dict(), "ema": average.state, "ema_count": average.count}
            torch.save(state, weights_file("trunk", setting, seed))
            row["trunk"] = miou(evaluate(net, setting))
        set_lr(opt, poly_lr(step, SETTINGS[setting].lr, total, WARMUP))
        opt.zero_grad()
        batch = stream[step]
        supervision(forward(net, batch["image"]), batch["label"]).backward()
        opt.step()
        average.update(net, step)
    finish(row | {"cpu_s": time.process_time() - began}, net, average)


class Start(NamedTuple):
    """Where a candidate begins.

    Attributes:
        net: The student so far.
        opt_state: Of its optimizer; None for a fresh one.
        average: Of its weights.
        first: The number of the first batch.
        budget: Compute from here on, in plain steps.
        lr: The learning rate when this share of the steps from here on is done.
    """

    net: nn.Module
    opt_state: dict | None
    average: MovingAverage
    first: int
    budget: float
    lr: Callable[[float], float]


def trunk(setting: str, seed: int) -> Start:
    """The plain student after :data:`SHARED` of its schedule, whose learning rate goes on falling."""
    saved = torch.load(weights_file("trunk", setting, seed))
    net = network(setting, seed)
    net.load_state_dict(saved["net"])
    average = MovingAverage(net)
    average.state, average.count = saved["ema"], saved["ema_count"]
    total, peak = SETTINGS[setting].steps, SETTINGS[setting].lr
    first = round(total * SHARED)
    return Start(
        net.train(), saved["opt"], average, first, total - first, lambda done: peak * ((1 - SHARED) * (1 - done)) ** 0.9
    )


def finished(setting: str, seed: int, more: int = 0) -> Start:
    """The plain student after its whole schedule, to be trained for half of it, and ``more``, by a fresh schedule."""
    total = SETTINGS[setting].steps
    net = network(setting, seed)
    net.load_state_dict(torch.load(weights_file(f"plain{total}", setting, seed))["last"])
    return anew(net, setting, total, total // 2 + more)


def scratch(setting: str, seed: int) -> Start:
    """The student as it is before any training."""
    return anew(network(setting, seed), setting, 0, SETTINGS[setting].steps)


def anew(net: nn.Module, setting: str, first: int, budget: int) -> Start:
    """A whole schedule of the learning rate, from its warm-up on."""
    peak, warm_up = SETTINGS[setting].lr, WARMUP / budget

    def lr(done: float) -> float:
        return peak * min(1, done / warm_up + 1 / WARMUP) * (1 - done) ** 0.9

    return Start(net.train(), None, MovingAverage(net), first, budget, lr)


@dataclass(frozen=True)
class Step:
    """What a candidate sees of a student's step."""

    number: int
    steps: int
    batch: Batch
    net: nn.Module
    out: SegmentationOutput
    average: MovingAverage


Listen = Callable[[Step], Terms]


def no_terms(step: Step) -> Terms:
    return {}


def as_it_is(net: nn.Module, batch: Batch, number: int) -> SegmentationOutput:
    return forward(net, batch["image"])


class Balance:
    """Weights by which a term's gradient on the logits has a given ratio to the cross-entropy's at first."""

    def __init__(self) -> None:
        self.norms: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def weight(self, term: str, supervised: Tensor, value: Tensor, ratio: float, logits: Tensor) -> float:
        if len(self.norms[term]) < CALIBRATION:
            self.norms[term].append((gradient_norm(supervised, logits), gradient_norm(value, logits)))
        return self.weights(term, ratio)

    def weights(self, term: str, ratio: float) -> float:
        wanted, had = (sum(part) for part in zip(*self.norms[term], strict=True))
        return ratio * wanted / max(had, 1e-12)


def gradient_norm(loss: Tensor, *inputs: Tensor) -> float:
    gradients = torch.autograd.grad(loss, inputs, retain_graph=True)
    return float(torch.stack([gradient.norm() for gradient in gradients]).norm())


def branch(
    name: str,
    setting: str,
    seed: int,
    cost: float,
    listen: Listen = no_terms,
    spent: float = 0.0,
    helper: nn.Module | None = None,
    prepare: Callable[[Batch], Batch] = lambda batch: batch,
    see: Callable[[nn.Module, Batch, int], SegmentationOutput] = as_it_is,
    supervise: Callable[[SegmentationOutput, Tensor], Tensor] = supervision,
    start: Start | None = None,
    repeat: int | None = None,
) -> None:
    """Train the student from the trunk, or from ``start``.

    Args:
        name: The candidate; this, ``setting`` and ``seed`` name the result.
        setting: Of :data:`SETTINGS`.
        seed: Whose trunk and batches.
        cost: Compute of a step; so many steps are made as the budget left holds.
        listen: What is learned from beside the label: terms and their gradients' ratio; None: as they are.
        spent: Compute that was spent already, on a teacher.
        helper: What is trained along.
        prepare: What becomes of a batch.
        see: The network's output of a batch in the branch's step of this number.
        supervise: The loss of output and label.
        start: Where it begins.
        repeat: After how many steps the batches begin again.
    """
    began = time.process_time()
    net, opt_state, average, first, budget, lr = start or trunk(setting, seed)
    opts = [optimizer(net)] + ([optimizer(helper)] if helper else [])
    if opt_state is not None:
        opts[0].load_state_dict(opt_state)
    stream, balance = Stream(setting, seed), Balance()
    torch.manual_seed(derive_seed(seed, "dropout", name))
    steps = int((budget - spent) / cost)
    for number in range(steps):
        for opt in opts:
            set_lr(opt, lr(number / steps))
            opt.zero_grad()
        batch = prepare(stream[first + number % (repeat or steps)])
        step = Step(number, steps, batch, net, see(net, batch, number), average)
        supervised = loss = supervise(step.out, batch["label"])
        for term, (value, ratio) in listen(step).items():
            factor = 1.0 if ratio is None else balance.weight(term, supervised, value, ratio, step.out.logits)
            loss = loss + factor * value
        loss.backward()
        for opt in opts:
            opt.step()
        average.update(net, first + number)
    row = {"name": name, "setting": setting, "seed": seed, "units": first + spent + steps * cost, "steps": steps}
    row["weights"] = {term: round(balance.weights(term, 1.0), 4) for term in balance.norms}
    finish(row | {"cpu_s": time.process_time() - began}, net, average)
