"""ladseg: light semantic-segmentation networks made more accurate by label-assisted distillation."""

from . import distillers as distillers
from .deploy import Student as Student
from .deploy import load as load
from .evaluation import ConfusionMatrix as ConfusionMatrix
from .evaluation import Inference as Inference
from .label_noise import LabelNoise as LabelNoise
from .models import Segmenter as Segmenter
from .models import adapt as adapt
from .models import build_model as build_model
from .models import list_models as list_models
from .models import widen_input as widen_input
from .objectives import LabelAssisted as LabelAssisted
from .objectives import Plain as Plain
from .objectives import StudentObjective as StudentObjective
from .objectives import TeacherObjective as TeacherObjective
from .outputs import SegmentationOutput as SegmentationOutput
from .recipe import Recipe as Recipe
from .recipe_files import load_recipe as load_recipe

__version__ = "0.1.0"
