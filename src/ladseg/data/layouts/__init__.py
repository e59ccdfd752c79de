"""How data sets lie on disk, one file each."""

from .registry import LAYOUTS as LAYOUTS
from .registry import get_layout as get_layout
