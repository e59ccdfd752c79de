"""The training loop and its schedule, checkpoints and logs, for any objective; it knows nothing of distillation."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .accelerators import make_accelerator as make_accelerator
    from .accelerators import one_process_first as one_process_first
    from .accelerators import wait_patiently as wait_patiently
    from .checkpoints import remove_checkpoints as remove_checkpoints
    from .logs import Callback as Callback
    from .logs import Stage as Stage
    from .logs import median_of as median_of
    from .logs import read_metrics as read_metrics
    from .logs import validation_curve as validation_curve
    from .loop import fit as fit
    from .optimizers import build_optimizer as build_optimizer
    from .precision import depthwise_in_float32 as depthwise_in_float32
    from .precision import resolve_precision as resolve_precision
    from .result import FitResult as FitResult
    from .result import load_result as load_result
    from .schedule import is_due as is_due
    from .schedule import learning_rate as learning_rate
    from .schedule import poly_lr as poly_lr
    from .step import to_device as to_device
else:
    from ladseg.contents import on_first_use

    __getattr__, __dir__, __all__ = on_first_use(__name__, __file__)
