"""Studies: what runs several trainings and compares them."""

from .check import as_json as as_json
from .check import check as check
from .check import data_yaml as data_yaml
from .check import page as page
from .compare import compare as compare
from .environment import describe_environment as describe_environment
from .environment import is_main_process as is_main_process
from .evaluate_file import evaluate_file as evaluate_file
from .model_times import time_model as time_model
from .run import train as train
from .submit import submit as submit
