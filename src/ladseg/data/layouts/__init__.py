"""The layouts of data sets on disk, one file each."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .registry import LAYOUTS as LAYOUTS
    from .registry import get_layout as get_layout
else:
    from ladseg.contents import on_first_use

    __getattr__, __dir__, __all__ = on_first_use(__name__, __file__)
