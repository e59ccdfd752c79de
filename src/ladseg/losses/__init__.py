"""Class losses: pure functions ``(logits, label) -> scalar``."""

from .boundary import boundary_loss as boundary_loss
from .boundary import boundary_target as boundary_target
from .cross_entropy import cross_entropy as cross_entropy
