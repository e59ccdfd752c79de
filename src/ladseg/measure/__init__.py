"""Time, peak memory, multiply-accumulates and the environment of a measurement."""

from .environment import describe_environment as describe_environment
from .environment import is_main_process as is_main_process
from .model_times import time_model as time_model
