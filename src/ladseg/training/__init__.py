"""The one training loop: tensors, dicts and time."""

from .loop import FitResult as FitResult
from .loop import fit as fit
from .precision import make_accelerator as make_accelerator
from .precision import resolve_precision as resolve_precision
