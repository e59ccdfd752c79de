"""Images and their labels: layouts on disk, checks, augmentation, loaders, and the built-in scenes."""

from .check import check_dataset as check_dataset
from .dataset import SegmentationDataset as SegmentationDataset
from .dataset import open_dataset as open_dataset
from .demo_scenes import write_demo_scenes as write_demo_scenes
from .loader import eval_loader as eval_loader
from .loader import train_loader as train_loader
from .spec import IGNORE as IGNORE
from .spec import DatasetSpec as DatasetSpec
