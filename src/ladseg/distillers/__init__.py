"""Distillers: how a student listens to a teacher, one file a method.

Each is a small module called with ``(student_output, teacher_output, label)`` that returns named scalar terms;
its ``terms`` say which, and the weight of each.
"""

from .at import AT as AT
from .at import at_loss as at_loss
from .base import Distiller as Distiller
from .cwd import CWD as CWD
from .cwd import cwd_loss as cwd_loss
from .cwd_full import CWDFull as CWDFull
from .dist import DIST as DIST
from .dist import dist_losses as dist_losses
from .feature import Feature as Feature
from .feature import FitNet as FitNet
from .feature import feature_loss as feature_loss
from .ifvd import IFVD as IFVD
from .ifvd import ifv_loss as ifv_loss
from .kd import KD as KD
from .kd import kd_loss as kd_loss
from .mgd import MGD as MGD
from .none import NoDistillation as NoDistillation
from .registry import DISTILLERS as DISTILLERS
from .registry import build_distiller as build_distiller
from .skd import SKD as SKD
from .skd import pairwise_loss as pairwise_loss
