"""Distillers, the losses by which a student imitates a teacher, one file per method.

Each is a small module that maps ``(student_output, teacher_output, label)`` to named scalar loss terms; its ``terms``
holds their weights. :mod:`ladseg.distillation_methods` is the table of all methods.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .alignment import MissingFeatureMap as MissingFeatureMap
    from .at import AT as AT
    from .at import at_loss as at_loss
    from .build import build_distiller as build_distiller
    from .cirkd import CIRKD as CIRKD
    from .cwd import CWD as CWD
    from .cwd import cwd_loss as cwd_loss
    from .cwd_full import CWDFeatures as CWDFeatures
    from .cwd_full import CWDFull as CWDFull
    from .dist import DIST as DIST
    from .dist import dist_losses as dist_losses
    from .distiller import Combined as Combined
    from .distiller import Distiller as Distiller
    from .distiller import NoDistillation as NoDistillation
    from .dsd import DSD as DSD
    from .dsd import csd_loss as csd_loss
    from .dsd import psd_loss as psd_loss
    from .feature import Feature as Feature
    from .feature import FitNet as FitNet
    from .feature import feature_loss as feature_loss
    from .ifvd import IFVD as IFVD
    from .ifvd import ifv_loss as ifv_loss
    from .kd import KD as KD
    from .kd import kd_loss as kd_loss
    from .maskd import MasKD as MasKD
    from .maskd import masked_loss as masked_loss
    from .mgd import MGD as MGD
    from .skd import SKD as SKD
    from .skd import pairwise_loss as pairwise_loss
else:
    from ladseg.contents import on_first_use

    __getattr__, __dir__, __all__ = on_first_use(__name__, __file__)
