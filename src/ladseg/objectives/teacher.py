"""Train the label-assisted teacher (Eq. 7)."""

from typing import Literal

from torch import Tensor, nn

from ladseg.distillers import cwd_loss
from ladseg.losses.class_loss import ClassLoss
from ladseg.losses.cross_entropy import cross_entropy
from ladseg.objectives.label_assisted import LabelAssisted, noise_generators
from ladseg.objectives.plain import aux_weight_of, supervised_terms, weighted
from ladseg.recipe import consistency_weight


class TeacherObjective(nn.Module):
    """``L_T = L_seg(O1, Y) + L_seg(O2, Y) + lambda * D(O1, O2)`` (Eq. 7), with D = CWD on the logits.

    With lambda 0 there is nothing to compare, and one path is trained: ``L_T = L_seg(O1, Y)``, at half the cost.

    Args:
        teacher: The label-assisted network.
        consistency: Lambda. None is the paper's 1 with random class weights, else 0: the two paths then differ by pixel
            noise alone, and the term does harm (docs/results.md).
        consistency_form: ``"one-way"`` for D(O1, O2) with gradients into both, as in Eq. 7, or ``"symmetric"`` for
            D(O1, sg O2) + D(O2, sg O1), as in the released code.
        aux_weight: Weight of the training-only heads; None takes the network's own (0.4; 1 for STDC).
        tau: Temperature of D.
        class_loss: As for :class:`ladseg.Plain`.

    Raises:
        TypeError: The teacher is not a :class:`LabelAssisted`.
    """

    def __init__(
        self,
        teacher: LabelAssisted,
        consistency: float | None = None,
        consistency_form: Literal["one-way", "symmetric"] = "one-way",
        aux_weight: float | None = None,
        tau: float = 4.0,
        class_loss: ClassLoss = cross_entropy,
    ) -> None:
        super().__init__()
        if not isinstance(teacher, LabelAssisted):
            raise TypeError(
                f"TeacherObjective trains a LabelAssisted network, and got a {type(teacher).__name__}; pass "
                "LabelAssisted(network, num_classes), or train a network that does not see labels by Plain"
            )
        self.teacher = teacher
        self.consistency = consistency_weight(consistency, teacher.noise.class_weights)
        self.expected_terms = {"seg_1", "seg_2", "consistency"} if self.consistency else {"seg"}
        self.consistency_form = consistency_form
        self.aux_weight = aux_weight_of(teacher.network) if aux_weight is None else aux_weight
        self.tau = tau
        self.class_loss = class_loss

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        image, label = batch["image"], batch["label"]
        if not self.consistency:
            output = self.teacher(image, label, noise_generators(batch, 1))
            return weighted(supervised_terms(output, label, "", self.class_loss), {"aux": self.aux_weight})
        one, two = self.teacher.two_paths(image, label, noise_generators(batch, 1), noise_generators(batch, 2))
        terms = supervised_terms(one, label, "_1", self.class_loss)
        terms |= supervised_terms(two, label, "_2", self.class_loss)
        terms["consistency"] = self._distance(one.logits, two.logits)
        return weighted(terms, {"aux_1": self.aux_weight, "aux_2": self.aux_weight, "consistency": self.consistency})

    def _distance(self, one: Tensor, two: Tensor) -> Tensor:
        if self.consistency_form == "one-way":
            return cwd_loss(one, two, self.tau)
        return cwd_loss(one, two.detach(), self.tau) + cwd_loss(two, one.detach(), self.tau)
