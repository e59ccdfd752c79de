"""Distillers: how a student listens to a teacher, one file a method.

Each is a small module called with ``(student_output, teacher_output, label)`` that returns named scalar terms;
its ``terms`` say which.
"""

from .cwd import CWD as CWD
from .cwd import cwd_loss as cwd_loss
from .kd import KD as KD
from .kd import kd_loss as kd_loss
from .none import NoDistillation as NoDistillation
from .registry import DISTILLERS as DISTILLERS
from .registry import build_distiller as build_distiller
