"""Students that learn from a teacher, or from their own average."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ladseg.distillers.cwd import cwd_loss

from .batches import last
from .channels import Channel, noise_draws
from .networks import forward, network
from .setting import BLIND, FORWARD, IGNORE, RARE, SETTINGS, SHARED, STRONG_FORWARD, Batch, Terms, weights_file
from .student import Step, branch, finished, scratch, trunk
from .teachers import finished_teacher, members, train_teacher


def taught(name: str, setting: str, seed: int) -> None:
    """reuse-, free-, on-, scratch- and total-KIND-FORM-RATIO."""
    how, kind, form, pull = name.split("-")
    spent, cost = 0.0, 0.0 if how == "free" else answer_cost(kind)
    if how == "total":
        spent = SETTINGS[setting].steps / 10
        begin = torch.load(weights_file("trunk", setting, seed))["net"]
        peak = SETTINGS[setting].lr * (1 - SHARED) ** 0.9
        tutors = [train_teacher(kind, setting, seed, begin, round(spent), peak)]
    else:
        tutors = [finished_teacher(member, setting, seed) for member in members(kind)]
    ask = Ask(tutors, kind)
    every, kept = tag_number(kind, "every"), tag_number(kind, "kept")
    start = {"on": finished, "scratch": scratch}.get(how, trunk)(setting, seed)
    if kept:
        cost *= kept / (start.budget - kept * cost)  # so many answers are computed, whatever the number of steps

    def listen(step: Step) -> Terms:
        if step.number % (every or 1):
            return {}
        logits = step.out.logits
        value = distance(form, logits, ask(step.batch, tuple(logits.shape[-2:])), step.batch["label"])
        return {form: (float(pull[1:]) * value, None) if pull.startswith("w") else (value, float(pull))}

    branch(name, setting, seed, 1 + cost / (every or 1), listen, spent, start=start, repeat=kept)


def answer_cost(kind: str) -> float:
    """Compute of a teacher's answer to a batch."""
    return len(members(kind)) * (STRONG_FORWARD if "@strong" in kind else FORWARD) / (4 if "@half" in kind else 1)


class Ask:
    """Teachers of a kind with all that they are shown, which give the mean of their logits at the wanted size."""

    def __init__(self, teachers: list[nn.Module], kind: str) -> None:
        self.teachers = [teacher.eval().requires_grad_(False) for teacher in teachers]
        self.channel = None if kind.startswith(BLIND) else Channel(kind.split("@")[0])
        self.half = "@half" in kind

    @torch.no_grad()
    def __call__(self, batch: Batch, size: tuple[int, int]) -> Tensor:
        image = batch["image"]
        if self.channel:
            image = last(torch.cat([image, self.channel(batch["label"], noise_draws(batch, 1))], 1))
        if self.half:
            image = last(F.interpolate(image, scale_factor=0.5, mode="bilinear", antialias=True))
        answer = torch.stack([forward(teacher, image).logits for teacher in self.teachers]).mean(0)
        return F.interpolate(answer, size, mode="bilinear", align_corners=False) if self.half else answer


def tag_number(kind: str, tag: str) -> int | None:
    return next((int(part.removeprefix(tag)) for part in kind.split("@") if part.startswith(tag)), None)


def distance(form: str, student: Tensor, answer: Tensor, label: Tensor) -> Tensor:
    """Of the student's logits from the teacher's.

    ``cwd``; ``swap``, CWD from the answer that the label has corrected; or the KL divergence of a position, ``kd``
    everywhere, ``right`` where the teacher is, ``wrong`` where it is and the student is not, ``edge`` at boundaries of
    the label and on its rarer classes. ``shuf`` before a form takes another image's label or mask: its placebo.
    """
    placebo, form = form.startswith("shuf"), form.removeprefix("shuf")
    if form == "cwd":
        return cwd_loss(student, answer)
    truth = F.interpolate(label[:, None].float(), student.shape[-2:], mode="nearest")
    around = F.max_pool2d(truth, 3, 1, 1) != -F.max_pool2d(-truth, 3, 1, 1)
    truth = truth[:, 0].long()
    if form == "swap":
        return cwd_loss(student, corrected(answer, truth.roll(1, 0) if placebo else truth))
    right = answer.argmax(1) == truth
    chosen = {
        "kd": torch.ones_like(right),
        "right": right,
        "wrong": right & (student.argmax(1) != truth),
        "edge": around[:, 0] | torch.isin(truth, RARE),
    }[form]
    chosen = (chosen.roll(1, 0) if placebo else chosen) & (truth != IGNORE)
    divergence = F.kl_div(student.log_softmax(1), answer.log_softmax(1), reduction="none", log_target=True).sum(1)
    return (divergence * chosen).mean()


def corrected(answer: Tensor, truth: Tensor) -> Tensor:
    """The teacher's logits where the true class has changed places with the highest one."""
    valid = (truth != IGNORE)[:, None]
    true, top = torch.where(valid[:, 0], truth, 0)[:, None], answer.argmax(1, keepdim=True)
    swapped = answer.scatter(1, top, answer.gather(1, true)).scatter(1, true, answer.gather(1, top))
    return torch.where(valid, swapped, answer)


def self_average(name: str, setting: str, seed: int) -> None:
    _, *form, ratio = name.split("-")
    tutor = network(setting, seed).eval().requires_grad_(False)

    def listen(step: Step) -> Terms:
        if step.number % 5 == 0:
            tutor.load_state_dict(step.average.state)
        with torch.no_grad():
            answer = forward(tutor, step.batch["image"]).logits
        return {"cwd": (distance((form or ["cwd"])[0], step.out.logits, answer, step.batch["label"]), float(ratio))}

    branch(name, setting, seed, 1 + FORWARD, listen)
