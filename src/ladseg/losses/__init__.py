"""Class losses: pure functions ``(logits, label) -> scalar``."""

from .cross_entropy import cross_entropy as cross_entropy
