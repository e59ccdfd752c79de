"""Images and their labels: layouts on disk, checks, augmentation, loaders, and the built-in scenes."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .cache import fingerprint as fingerprint
    from .cache import keep_decoded as keep_decoded
    from .check import check_dataset as check_dataset
    from .check import survey as survey
    from .check_report import Report as Report
    from .checked import Checked as Checked
    from .checked import check_once as check_once
    from .checked import refuse_other_data as refuse_other_data
    from .dataset import SegmentationDataset as SegmentationDataset
    from .dataset import data_root as data_root
    from .dataset import find_split as find_split
    from .dataset import open_dataset as open_dataset
    from .demo_scenes import write_demo_scenes as write_demo_scenes
    from .layouts import LAYOUTS as LAYOUTS
    from .layouts import get_layout as get_layout
    from .loader import eval_loader as eval_loader
    from .loader import train_loader as train_loader
    from .own_augmentation import build_transform as build_transform
    from .spec import IGNORE as IGNORE
    from .spec import DatasetSpec as DatasetSpec
    from .spec import portable as portable
else:
    from ladseg.contents import on_first_use

    __getattr__, __dir__, __all__ = on_first_use(__name__, __file__)
