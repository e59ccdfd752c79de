"""Studies: what runs several trainings and compares them."""

from .check import as_json as as_json
from .check import check as check
from .check import data_yaml as data_yaml
from .check import page as page
from .compare import compare as compare
from .comparison import read_comparison as read_comparison
from .environment import describe_environment as describe_environment
from .environment import is_main_process as is_main_process
from .evaluate_file import evaluate_file as evaluate_file
from .model_times import time_model as time_model
from .predict import predict as predict
from .report import write_report as write_report
from .run import train as train
from .run_folder import write_results as write_results
from .submit import submit as submit
