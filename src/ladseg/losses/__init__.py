"""Class losses: pure functions ``(logits, label) -> scalar``."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .boundary import boundary_loss as boundary_loss
    from .boundary import boundary_target as boundary_target
else:
    from ladseg.contents import on_first_use

    __getattr__, __dir__, __all__ = on_first_use(__name__, __file__)
