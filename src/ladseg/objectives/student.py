"""Train a student from a frozen teacher (Eq. 8), and the first stage that some distillers need before."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn

from ladseg.distillers import Distiller
from ladseg.losses.class_loss import ClassLoss
from ladseg.losses.cross_entropy import cross_entropy
from ladseg.models import Segmenter
from ladseg.objectives.label_assisted import LabelAssisted, noise_generators, run_network
from ladseg.objectives.plain import aux_weight_of, supervised_terms, weighted
from ladseg.outputs import SegmentationOutput


def frozen_view(network: nn.Module) -> nn.Module:
    """Return a copy of the modules, in eval mode, that shares the network's weights without gradient.

    Settings of the view, such as its mode or the strength of its noise, do not affect the network.
    """
    shared: dict[int, Tensor] = {id(buffer): buffer for buffer in network.buffers()}
    shared |= {id(weight): nn.Parameter(weight.detach(), requires_grad=False) for weight in network.parameters()}
    return copy.deepcopy(network, shared).eval()


class FrozenTeacherObjective(nn.Module):
    """An objective with a teacher that it does not train.

    Args:
        teacher: A label-assisted or a classic network. It is not changed; the objective holds a frozen view of it.
        teacher_input: Scale and offset ``(C,)`` that convert an image normalised for the student to one normalised for
            the teacher; None if both normalisations are equal.
    """

    # The training loop leaves these children out of checkpoints.
    frozen: tuple[str, ...] = ("teacher",)

    def __init__(self, teacher: nn.Module, teacher_input: tuple[Tensor, Tensor] | None) -> None:
        super().__init__()
        self.teacher = frozen_view(teacher)
        self.teacher_input = teacher_input

    def train(self, mode: bool = True) -> "FrozenTeacherObjective":
        super().train(mode)
        self.teacher.eval()
        return self

    @torch.no_grad()
    def teacher_output(self, batch: dict[str, Tensor]) -> SegmentationOutput:
        """Return the teacher's output for a batch of images, labels and seeds, in float32."""
        image = batch["image"]
        if self.teacher_input is not None:
            scale, offset = (value.to(image).view(1, -1, 1, 1) for value in self.teacher_input)
            image = image * scale + offset
        if isinstance(self.teacher, LabelAssisted):
            output = self.teacher(image, batch["label"], noise_generators(batch, 1))
        else:
            output = run_network(self.teacher, image)
        return output.map(Tensor.float)


class StudentObjective(FrozenTeacherObjective):
    """``L_S = L_seg(O_S, Y) + beta * L_kd(O_S, O_T)`` (Eq. 8).

    Args:
        student: The three-channel network to make more accurate.
        teacher: A label-assisted or a classic network.
        distiller: A distiller of :mod:`ladseg.distillers`.
        weight: Beta, the weight of the distiller's first term, like a recipe's ``distill.weight``; None takes the
            distiller's own. The other terms have the weights in ``distiller.terms``.
        aux_weight: Weight of the student's training-only heads; None takes the student's own (0.4; 1 for STDC).
        teacher_input: As for :class:`FrozenTeacherObjective`.
        class_loss: As for :class:`ladseg.Plain`.
        start: The step from which on the teacher teaches; before it the distiller's terms are zero, and the teacher is
            not asked. Counted by :meth:`before_step`, without which it teaches from the first step on.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        distiller: Distiller,
        weight: float | None = None,
        aux_weight: float | None = None,
        teacher_input: tuple[Tensor, Tensor] | None = None,
        class_loss: ClassLoss = cross_entropy,
        start: int = 0,
    ) -> None:
        super().__init__(teacher, teacher_input)
        self.start, self.teaches = start, True
        for part in self.teacher.modules():
            if isinstance(part, Segmenter):
                part.aux_in_eval = distiller.reads_aux
        self.student = student
        self.distiller = distiller
        self.weight = weight
        self.aux_weight = aux_weight_of(student) if aux_weight is None else aux_weight
        self.class_loss = class_loss
        # Set before each step: whether to measure the gradients in it, and the result.
        self.watched = False
        self.ratio: Tensor | None = None
        # The training loop stops if one is missing, because a distillation loss must not be dropped silently.
        self.expected_terms = {"seg"} | set(distiller.terms)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        student = run_network(self.student, batch["image"])
        distilled = self.distilled(student, batch) if self.teaches else self._untaught(batch)
        supervised = supervised_terms(student, batch["label"], class_loss=self.class_loss)
        weights = {"aux": self.aux_weight} | self._distiller_weights()
        if self.watched and distilled:
            pull = weighted(distilled, weights)["loss"]
            self.ratio = gradient_ratio(pull, supervised["seg"], student.logits)
        return weighted(supervised | distilled, weights)

    def before_step(self, step: int, logged: bool) -> None:
        """Measure the gradients in the next step if it is one that is logged, and teach in it if it is time."""
        self.teaches = step >= self.start
        self.watched, self.ratio = logged and self.teaches, None

    def measured(self) -> dict[str, Tensor]:
        """Return how hard distillation pulled in the last step beside the label, see :func:`gradient_ratio`."""
        return {} if self.ratio is None else {"gradient_ratio": self.ratio}

    def distilled(self, student: SegmentationOutput, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the distiller's terms for the student's output of a batch, unweighted."""
        teacher, label = self.teacher_output(batch), batch["label"]
        # Distillation runs in float32 even under autocast, which would compute its matrix products in bfloat16.
        with torch.autocast(label.device.type, enabled=False):
            terms: dict[str, Tensor] = self.distiller(student.map(Tensor.float), teacher, label)
        return terms

    def _untaught(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: torch.zeros((), device=batch["image"].device) for name in self.distiller.terms}

    def _distiller_weights(self) -> dict[str, float]:
        weights = dict(self.distiller.terms)
        if self.weight is not None and weights:
            weights[next(iter(weights))] = self.weight
        return weights


def gradient_ratio(distilled: Tensor, supervised: Tensor, logits: Tensor) -> Tensor | None:
    """Return the norm of one loss's gradient on the logits over that of another's, without touching any weight.

    Args:
        distilled: The weighted sum of the distiller's terms.
        supervised: The class loss.
        logits: The student's, of which both are functions.

    Returns:
        A scalar; None where distillation does not reach the logits, as that of feature maps alone does not.
    """
    if not distilled.requires_grad:
        return None
    (pull,) = torch.autograd.grad(distilled, logits, retain_graph=True, allow_unused=True)
    (label,) = torch.autograd.grad(supervised, logits, retain_graph=True)
    if pull is None:
        return None
    return pull.float().norm() / label.float().norm().clamp(min=torch.finfo(torch.float32).tiny)


class FirstStageObjective(FrozenTeacherObjective):
    """Train the part of a distiller that learns from the frozen teacher before the student's training.

    The loss is the class loss of the part's output plus the part's own terms.

    Args:
        teacher: The trained teacher.
        part: A distiller's ``first_stage``, which maps the teacher's output to an output that the label supervises,
            and to the terms that its ``terms`` names. Its ``train_mode`` tells whether the teacher is in train mode.
        teacher_input: As for :class:`FrozenTeacherObjective`.
    """

    def __init__(self, teacher: nn.Module, part: nn.Module, teacher_input: tuple[Tensor, Tensor] | None = None) -> None:
        super().__init__(teacher, teacher_input)
        self.part = part.requires_grad_(True)
        self.expected_terms = {"seg"} | set(part.terms)  # type: ignore[arg-type]

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        label = batch["label"]
        with train_mode(self.teacher) if self.part.train_mode else nullcontext():
            teacher = self.teacher_output(batch)
        with torch.autocast(label.device.type, enabled=False):
            output, terms = self.part(teacher)
        return weighted(supervised_terms(output, label) | terms, {})


@contextmanager
def train_mode(network: nn.Module) -> Iterator[None]:
    """Within the context, put a frozen network in train mode, with active dropout and batch statistics in batch norm.

    The running statistics do not change, so that its later predictions stay the same.
    """
    norms = [module for module in network.modules() if getattr(module, "track_running_stats", False)]
    network.train()
    for norm in norms:
        norm.track_running_stats = False  # type: ignore[assignment]
    try:
        yield
    finally:
        network.eval()
        for norm in norms:
            norm.track_running_stats = True  # type: ignore[assignment]
