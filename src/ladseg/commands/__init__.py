"""What the commands predict, evaluate, submit, check and report do."""

from .check import as_json as as_json
from .check import check as check
from .check import data_yaml as data_yaml
from .check import page as page
from .evaluate import evaluate_file as evaluate_file
from .inputs import Input as Input
from .inputs import find_inputs as find_inputs
from .overlays import mask_image as mask_image
from .overlays import overlay as overlay
from .predict import predict as predict
from .report import write_report as write_report
from .submit import submit as submit
from .video import VideoWriter as VideoWriter
from .video import open_video as open_video
