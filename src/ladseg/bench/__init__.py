"""``ladseg bench``: what training and predicting cost, beside what the networks' own arithmetic costs."""

from .bench import PARTS as PARTS
from .bench import bench as bench
from .setting import DEFAULT_NETWORKS as DEFAULT_NETWORKS
from .setting import Setting as Setting
